"""Memory of a schedule: how many bytes live at once, and where in one arena every buffer lies.

A buffer lives from the step that makes it to the last step that reads it, both included.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that live from step `first` to step `last`."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        """Both live at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Placed:
    """A buffer at its place in the arena."""

    buffer: Buffer
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.buffer.bytes


def peak_bytes(buffers: Sequence[Buffer]) -> int:
    """Most bytes that live at one step: no arena can be smaller."""
    steps = {buffer.first for buffer in buffers}
    return max((_live(buffers, step) for step in steps), default=0)


def packed(buffers: Sequence[Buffer]) -> tuple[Placed, ...]:
    """Every buffer at the lowest place that is free while it lives, the largest first.

    Source: greedy by size, Pisarchyk and Lee 2020, arXiv:2001.03288.
    """
    placed: list[Placed] = []
    for buffer in sorted(buffers, key=lambda one: (-one.bytes, one.first, one.name)):
        offset = 0
        for other in sorted((one for one in placed if one.buffer.meets(buffer)), key=lambda one: one.offset):
            if offset + buffer.bytes <= other.offset:
                break
            offset = max(offset, other.end)
        placed.append(Placed(buffer, offset))
    return tuple(placed)


def arena_bytes(placed: Sequence[Placed]) -> int:
    """Size of the arena that holds them."""
    return max((one.end for one in placed), default=0)


def _live(buffers: Sequence[Buffer], step: int) -> int:
    return sum(buffer.bytes for buffer in buffers if buffer.first <= step <= buffer.last)
