"""What a surrogate model sees of architectures: both encodings of `space.encoding`, computed when asked for.

Source: evaluators_and_search.md 5.3 (statistics), 12.1 (encodings).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from space.architecture import Architecture
from space.encoding import STATISTICS, VectorEncoding, statistics
from space.search_space import SearchSpace

_LOG_PARAMS = STATISTICS.index("log_params")
_REMEMBERED = 4096
"""Architectures whose rows are kept; a row of a large space takes some kilobytes."""

_Known = dict[str, np.ndarray]
"""Architecture id -> its row."""


@dataclass(frozen=True)
class Encoder:
    """Rows of architectures of one space; remembers them, so keep one for many calls."""

    space: SearchSpace
    _statistics: _Known = field(default_factory=dict, repr=False, compare=False)
    _vectors: _Known = field(default_factory=dict, repr=False, compare=False)

    def rows(self, architectures: Sequence[Architecture]) -> "Rows":
        return Rows(self, tuple(architectures))

    def statistics(self, architectures: Sequence[Architecture]) -> np.ndarray:
        return _looked_up(architectures, self._statistics, statistics, len(STATISTICS))

    def vectors(self, architectures: Sequence[Architecture]) -> np.ndarray:
        return _looked_up(architectures, self._vectors, self._genes.rows, len(self._genes.columns))

    @cached_property
    def _genes(self) -> VectorEncoding:
        return VectorEncoding(self.space)


@dataclass(frozen=True)
class Rows:
    """Encoded architectures, one row each. Genes cost more than statistics, and few models read them."""

    encoder: Encoder
    architectures: tuple[Architecture, ...]

    @cached_property
    def statistics(self) -> np.ndarray:
        return self.encoder.statistics(self.architectures)

    @cached_property
    def genes(self) -> np.ndarray:
        return self.encoder.vectors(self.architectures)

    @property
    def log_params(self) -> np.ndarray:
        """One column."""
        return self.statistics[:, [_LOG_PARAMS]]

    def __len__(self) -> int:
        return len(self.architectures)


def _looked_up(
    architectures: Sequence[Architecture],
    known: _Known,
    encode: Callable[[Sequence[Architecture]], np.ndarray],
    width: int,
) -> np.ndarray:
    new = {one.id: one for one in architectures if one.id not in known}
    if len(known) + len(new) > _REMEMBERED:
        known.clear()
        new = {one.id: one for one in architectures}
    if new:
        known.update(zip(new, encode(list(new.values())), strict=True))
    return np.array([known[one.id] for one in architectures]).reshape(-1, width)
