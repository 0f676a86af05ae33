"""Closed-form costs of many architectures at once: the numbers of `costs`, from a table of parts.

    layer = mixer + feed-forwards + norms     total = ends + sum of layers     peak = max(ends, max of layers)

Every distinct mixer and feed-forward is counted once per width, interface and number format; what is left per
layer is a look-up, and sums by numpy. `costs` of one architecture is the definition.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields

import numpy as np
from jaxtyping import Int64

from .architecture import Architecture, LayerConfig
from .choice import Surroundings
from .costs import (
    BYTES_PER_NUMBER,
    Costs,
    EndCosts,
    PartCosts,
    StoredNumbers,
    checked_tokens,
    end_costs,
    feed_forward_costs,
    has_private_norms,
    is_decodable,
    mixer_costs,
    position_params,
    stored_numbers,
)
from .quantization import number_format

_PARAMS, _IDLE, _MACS, _CAUSAL, _DECODE, _BITS, _STATE, _PEAK = range(8)
_PART_FIELDS = tuple(field.name for field in fields(PartCosts))
_COLUMNS = (*(field.name for field in fields(Costs)), "memory_bytes")


@dataclass(frozen=True, slots=True)
class _Counted:
    """A mixer, or the feed-forwards of a layer, whatever the number format."""

    row: tuple[int, ...]
    """The fields of `PartCosts`; the bits are those of fp32."""
    stored: StoredNumbers
    times: int
    """How many feed-forwards there are."""


@dataclass(slots=True)
class _Parts:
    """What is known of one width, length and projection form; positions and heads share it."""

    rows: dict[tuple[int, str, str], int] = field(default_factory=dict)
    """(id of a config, number format, residual) -> its row in the table."""
    counted: dict[tuple[int, bool], _Counted] = field(default_factory=dict)
    """(id of a config, whether it is halved) -> what it costs in a serial layer."""


@dataclass(slots=True)
class _Site:
    """Layers of one width, interface, position and projection form."""

    at: Surroundings
    tokens: int
    ends: EndCosts
    position: int
    parts: _Parts
    layers: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """id of a layer -> rows of its mixer and feed-forwards, parameters of its norms."""


class CostTable:
    """Costs at one batch size and number of tokens; remembers parts, so keep one for many calls."""

    def __init__(self, *, batch_size: int = 1, tokens: int | None = None) -> None:
        self.batch_size, self.tokens = batch_size, tokens
        self._sites: dict[tuple[object, ...], _Site] = {}
        self._parts: dict[tuple[object, ...], _Parts] = {}
        self._rows: list[tuple[int, ...]] = []
        self._kept: list[object] = []  # rows are found by id, so the objects have to live

    def costs(self, architectures: Sequence[Architecture]) -> dict[str, Int64[np.ndarray, " architectures"]]:
        """The fields of `Costs` and `memory_bytes`, each one number per architecture.

        Raises:
            InvalidInputError: batch or tokens below 1, or more tokens than a context.
        """
        if not architectures:
            return {name: np.zeros(0, dtype=np.int64) for name in _COLUMNS}
        sites = [self._site(architecture) for architecture in architectures]
        found, owned, normed, starts = self._look_up(architectures, sites)
        layers = np.array(found, dtype=np.int64).reshape(-1, 3)
        parts = np.array(self._rows, dtype=np.int64).reshape(-1, 8)
        mixers, feed_forwards = parts[layers[:, 0]], parts[layers[:, 1]]
        table = mixers + feed_forwards
        table[:, _PEAK] = np.maximum(mixers[:, _PEAK], feed_forwards[:, _PEAK])
        table[:, (_PARAMS, _IDLE, _BITS)] *= np.array(owned, dtype=np.int64)[:, None]
        norms = np.add.reduceat(layers[:, 2] * np.array(normed, dtype=np.int64), starts)
        sums, peak = np.add.reduceat(table, starts), np.maximum.reduceat(table[:, _PEAK], starts)

        ends = np.array([astuple(site.ends) for site in sites], dtype=np.int64)
        position = [self._position(a, site) for a, site in zip(architectures, sites, strict=True)]
        around = ends[:, 0] + np.array(position, dtype=np.int64) + norms
        decodes = np.array([is_decodable(architecture) for architecture in architectures])
        number = self.batch_size * BYTES_PER_NUMBER
        weights = -(-(8 * BYTES_PER_NUMBER * around + sums[:, _BITS]) // 8)
        state, activation = number * sums[:, _STATE], number * np.maximum(ends[:, 3], peak)
        return {
            "params": around + sums[:, _PARAMS],
            "active_params": around + sums[:, _PARAMS] - sums[:, _IDLE],
            "macs": ends[:, 1] + sums[:, _MACS],
            "macs_causal": ends[:, 1] + sums[:, _CAUSAL],
            "macs_decode": np.where(decodes, ends[:, 2] + sums[:, _DECODE], 0),
            "weights_bytes": weights,
            "state_bytes": state,
            "activation_bytes": activation,
            "memory_bytes": weights + state + activation,
        }

    def _look_up(
        self, architectures: Sequence[Architecture], sites: Sequence[_Site]
    ) -> tuple[list[tuple[int, int, int]], list[bool], list[bool], list[int]]:
        """Of every layer its parts, whether it owns its weights and its norms; where architectures start."""
        found: list[tuple[int, int, int]] = []
        owned: list[bool] = []
        normed: list[bool] = []
        starts: list[int] = []
        for architecture, site in zip(architectures, sites, strict=True):
            starts.append(len(found))
            known = site.layers
            for layer in architecture.layers:
                parts = known.get(id(layer))
                found.append(self._add(layer, site) if parts is None else parts)
            owns = [True] * len(architecture.layers)
            if architecture.sharing.kind != "none":
                owns = [owner == index for index, owner in enumerate(architecture.owners)]
            owned += owns
            normed += [True] * len(owns) if has_private_norms(architecture) else owns
        return found, owned, normed, starts

    def _add(self, layer: LayerConfig, site: _Site) -> tuple[int, int, int]:
        form, residual, rows = layer.number_format, layer.residual, site.parts.rows
        mixer = rows.get((id(layer.mixer), form, ""))
        if mixer is None:
            mixer = rows[id(layer.mixer), form, ""] = self._add_part(layer, site, "")
        feed_forward = rows.get((id(layer.feed_forward), form, residual))
        if feed_forward is None:
            feed_forward = self._add_part(layer, site, residual)
            rows[id(layer.feed_forward), form, residual] = feed_forward
        norms = layer.num_norms * layer.norm.params(site.at.d_model)
        self._kept.append(layer)
        site.layers[id(layer)] = (mixer, feed_forward, norms)
        return mixer, feed_forward, norms

    def _add_part(self, layer: LayerConfig, site: _Site, residual: str) -> int:
        """A new row, of the mixer where `residual` is empty. Another number format changes the bits only, a
        parallel residual the peak only: there the mixer's output waits.
        """
        config = layer.feed_forward if residual else layer.mixer
        is_halved = residual == "macaron"
        known = site.parts.counted.get((id(config), is_halved))
        if known is None:
            known = site.parts.counted[id(config), is_halved] = _count(layer, site, residual)
            self._kept.append(config)
        row = list(known.row)
        row[_BITS] = known.times * known.stored.bits(number_format(layer.number_format))
        if residual == "parallel" and known.times:
            row[_PEAK] += site.tokens * site.at.d_model
        self._rows.append(tuple(row))
        return len(self._rows) - 1

    def _site(self, architecture: Architecture) -> _Site:
        key = (
            architecture.model, architecture.d_model, architecture.interface, architecture.position,
            architecture.projection, architecture.head, architecture.final_norm,
            architecture.embedding_width,
        )  # fmt: skip
        site = self._sites.get(key)
        if site is None:
            at = architecture.surroundings()
            n = checked_tokens(architecture, self.batch_size, self.tokens)
            own = 0 if architecture.position.reads_mixers else position_params(architecture, at)
            run = n + architecture.class_tokens
            key_of_parts = (at.d_model, run, at.context_length, at.causal, at.grid, at.rank_ratio)
            parts = self._parts.setdefault(key_of_parts, _Parts())
            site = self._sites[key] = _Site(at, run, end_costs(architecture, at, n), own, parts)
        return site

    def _position(self, architecture: Architecture, site: _Site) -> int:
        reads = architecture.position.reads_mixers
        return position_params(architecture, site.at) if reads else site.position


def _count(layer: LayerConfig, site: _Site, residual: str) -> _Counted:
    """The mixer where `residual` is empty; feed-forwards as in a serial layer, or halved."""
    if not residual:
        mixer = mixer_costs(layer, site.at, site.tokens)
        return _Counted(_row(mixer), stored_numbers(layer.mixer, site.at), 1)
    plain = layer.model_copy(update={"residual": "serial"}) if residual == "parallel" else layer
    fed = plain.feed_forwards
    stored = stored_numbers(fed[0], site.at) if fed else StoredNumbers(0, ())
    return _Counted(_row(feed_forward_costs(plain, site.at, site.tokens)), stored, len(fed))


def _row(part: PartCosts) -> tuple[int, ...]:
    return tuple(getattr(part, name) for name in _PART_FIELDS)
