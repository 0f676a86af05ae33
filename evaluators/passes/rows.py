"""Hidden activations of the feed-forwards as rows, of a bounded number and width."""

import torch
from torch import Tensor

from .records import Hidden

ROWS_PER_UNIT = 4
MAX_ROWS = 8192
SAMPLED_UNITS = 1024


class HiddenRows:
    """Keeps at most `MAX_ROWS` rows of every feed-forward; of a very wide one the same sampled units."""

    def __init__(self) -> None:
        self._units: dict[int, Tensor] = {}
        self._widths: dict[int, int] = {}
        self._chunks: dict[int, list[Tensor]] = {}
        self._rows: dict[int, int] = {}

    def add(self, number: int, hidden: Tensor) -> None:
        """[..., units] of feed-forward `number`, in the order the rows come."""
        seen = self._rows.get(number, 0)
        flat = hidden.detach().flatten(0, -2)[: MAX_ROWS - seen]
        width = flat.shape[1]
        self._widths[number] = width
        self._rows[number] = seen + flat.shape[0]
        kept = flat[:, self._sample(number, width)] if ROWS_PER_UNIT * width > MAX_ROWS else flat.clone()
        self._chunks.setdefault(number, []).append(kept)

    def _sample(self, number: int, width: int) -> Tensor:
        if number not in self._units:
            generator = torch.Generator().manual_seed(number)
            self._units[number] = torch.randperm(width, generator=generator)[:SAMPLED_UNITS].sort().values
        return self._units[number]

    @property
    def is_hungry(self) -> bool:
        """Whether some feed-forward has fewer rows than its width wants."""
        return any(
            self._rows[number] < min(MAX_ROWS, ROWS_PER_UNIT * width)
            for number, width in self._widths.items()
        )

    def hidden(self) -> tuple[Hidden, ...]:
        return tuple(
            Hidden(number, torch.cat(chunks), self._widths[number])
            for number, chunks in sorted(self._chunks.items())
        )
