"""Rotary positions: pairs of query and key channels turn by an angle that grows with the position.

    theta_k = 10000^(-2k / (r h)),  k = 0 .. p - 1,  p = floor(r h / 2)        r = rotary_pct
    (u_k, u_{k + p}) <- rotation of the pair by the angle position * theta_k

Source: Su et al. 2021, arXiv:2104.09864; a part of the channels: Black et al. 2022, arXiv:2204.06745
(GPT-NeoX-20B, section 2.1.1). Half-split layout, positions from 0. Channels beyond the 2 p never turn: at
r = 1 the last one of an odd head width. Acts inside the mixers that read it.

On the token grid of an image each axis has floor(h / 2) channels of the head for its own, with h / 2 in place
of h: the first half turns with the row, the second with the column (Heo et al. 2024, arXiv:2403.13298, the
axial form).
"""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator
from torch import Tensor, nn

from ..choice import PositionChoice, Surroundings, off
from ..errors import InvalidArchitectureError

BASE = 10_000.0
PARTS = (0.25, 0.5, 1.0)
"""Legal values of `rotary_pct`."""


def known_part(value: float) -> float:
    if value not in PARTS:
        raise ValueError(f"rotary_pct={value} is none of 0.25, 0.5 and 1")
    return value


class RopeConfig(PositionChoice):
    """Scores depend on positions through their difference only."""

    direction_aware: ClassVar[bool] = True

    kind: Literal["rope"] = "rope"
    rotary_pct: Annotated[float, AfterValidator(known_part)] = off(
        1.0, description="Part of each head's channels that turns: 0.25, 0.5 or 1."
    )

    def check_head_width(self, at: Surroundings, head_width: int) -> None:
        """Raises InvalidArchitectureError when no pair of a head's channels would turn."""
        axes = 2 if _grid(at) else 1
        if _pairs(head_width // axes, self.rotary_pct) < 1:
            least = int(2 * axes / self.rotary_pct)
            raise InvalidArchitectureError(
                f"rope with rotary_pct={self.rotary_pct:g} on {axes} {'axes' if axes > 1 else 'axis'} needs "
                f"heads of width {least} or more, got {head_width}; use fewer heads"
            )


class Rotary(nn.Module):
    """Tables for every position of the context, applied to heads of one width.

    `grid`: rows and columns of an image's tokens, which then turn by row and column.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        context_length: int,
        head_width: int,
        *,
        rotary_pct: float = 1.0,
        grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.axes = 2 if grid else 1
        self.pairs = _pairs(head_width // self.axes, rotary_pct)
        if grid:
            cos, sin = grid_tables(grid, head_width, rotary_pct=rotary_pct)
        else:
            cos, sin = rotary_tables(context_length, head_width, rotary_pct=rotary_pct)
        self.register_buffer("cos", cos.float(), persistent=False)
        self.register_buffer("sin", sin.float(), persistent=False)

    def forward(
        self, heads: Float[Tensor, "batch heads tokens width"], start: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "batch heads tokens width"]:
        """`start`: the position of the first token; None: 0."""
        n = heads.shape[2]
        if start is None:
            cos, sin = self.cos[:n], self.sin[:n]
        else:
            position = start + torch.arange(n, device=heads.device)
            cos, sin = self.cos[position], self.sin[position]
        return rotate(heads, cos, sin, pairs=self.pairs, axes=self.axes)


class Unturned(nn.Module):
    """Stands where a model without rotary positions has none: heads pass as they are."""

    def forward(
        self, heads: Float[Tensor, "batch heads tokens width"], start: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "batch heads tokens width"]:
        return heads


def build_rotary(at: Surroundings, head_width: int) -> Rotary | Unturned:
    """The model's rotation of heads of this width: `rotary(heads, start)`."""
    position = at.position
    if not isinstance(position, RopeConfig):
        return Unturned()
    return Rotary(at.context_length, head_width, rotary_pct=position.rotary_pct, grid=_grid(at))


def _grid(at: Surroundings) -> tuple[int, int] | None:
    """Causal models read images as sequences."""
    return None if at.causal else at.grid


def _pairs(width: int, rotary_pct: float) -> int:
    return int(rotary_pct * width / 2)


def rotary_tables(
    length: int, head_width: int, *, first: int = 0, rotary_pct: float = 1.0
) -> tuple[Float[Tensor, "tokens width"], Float[Tensor, "tokens width"]]:
    """Factors of a channel and of its partner at positions `first`, `first + 1`, ...; float64.

    cos theta for both channels of a pair and 1 for a channel without partner; -sin theta, sin theta and 0.
    """
    return _tables(torch.arange(first, first + length), head_width, rotary_pct)


def grid_tables(
    grid: tuple[int, int], head_width: int, *, rotary_pct: float = 1.0
) -> tuple[Float[Tensor, "tokens width"], Float[Tensor, "tokens width"]]:
    """The same for the tokens of an image, row by row: half of the head for each axis."""
    rows, columns = grid
    token = torch.arange(rows * columns)
    by_row = _tables(token // columns, head_width // 2, rotary_pct)
    by_column = _tables(token % columns, head_width // 2, rotary_pct)
    single = torch.zeros(rows * columns, head_width % 2, dtype=torch.float64)
    cos, sin = (
        torch.cat([a, b, rest], dim=1)
        for a, b, rest in zip(by_row, by_column, (single + 1.0, single), strict=True)
    )
    return cos, sin


def _tables(position: Tensor, width: int, rotary_pct: float) -> tuple[Tensor, Tensor]:
    pairs = _pairs(width, rotary_pct)
    theta = BASE ** (-2.0 * torch.arange(pairs, dtype=torch.float64) / (rotary_pct * width))
    angle = position.double()[:, None] * theta[None, :]
    cos, sin = angle.cos(), angle.sin()
    single = torch.zeros(position.shape[0], width - 2 * pairs, dtype=torch.float64)
    return torch.cat([cos, cos, single + 1.0], dim=1), torch.cat([-sin, sin, single], dim=1)


def rotate(
    heads: Float[Tensor, "*axes tokens width"],
    cos: Float[Tensor, "*tables tokens width"],
    sin: Float[Tensor, "*tables tokens width"],
    *,
    pairs: int | None = None,
    axes: int = 1,
) -> Float[Tensor, "*axes tokens width"]:
    """Every pair turned by its angle: heads * cos + partners * sin.

    The head is `axes` parts side by side, each with `pairs` pairs (None: as many as fit) before the channels
    that never turn.
    """
    head_width = cos.shape[-1]
    width = head_width // axes
    pairs = width // 2 if pairs is None else pairs
    borders = []
    for first in range(0, axes * width, width):
        middle, last = first + pairs, first + 2 * pairs
        borders += [(middle, last), (first, middle), (last, first + width)]
    borders.append((axes * width, head_width))
    partners = [heads[..., begin:end] for begin, end in borders if begin < end]
    return heads * cos + torch.cat(partners, dim=-1) * sin


def rotate_reference(
    heads: Float[Tensor, "batch heads tokens width"],
    *,
    first: int = 0,
    rotary_pct: float = 1.0,
    columns: int | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition, pair by pair; the first token stands at position `first`.

    `columns`: the tokens are an image of so many columns.
    """
    axes = 2 if columns else 1
    width = heads.shape[-1] // axes
    half = int(rotary_pct * width / 2)
    turned = heads.clone()
    for axis in range(axes):
        for k in range(half):
            theta = BASE ** (-2.0 * k / (rotary_pct * width))
            low_channel = axis * width + k
            for token in range(heads.shape[2]):
                position = first + token
                if columns:
                    position = token // columns if axis == 0 else token % columns
                angle = torch.tensor(position * theta, dtype=torch.float64)
                low, high = heads[:, :, token, low_channel], heads[:, :, token, low_channel + half]
                turned[:, :, token, low_channel] = low * angle.cos() - high * angle.sin()
                turned[:, :, token, low_channel + half] = high * angle.cos() + low * angle.sin()
    return turned
