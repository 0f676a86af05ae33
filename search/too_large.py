"""What ran out of memory says what else would: an architecture at least as large in all of parameters,
multiplications and memory of a pass is not tried.

One that is smaller in any of them is, for memory of a training is known no better than that.
"""

from collections.abc import Iterable, Mapping

SIZES = ("params", "macs", "memory_bytes")
Sizes = tuple[float, ...]


def sizes_of(values: Mapping[str, float]) -> Sizes:
    """Of closed-form values (`search.plan.static_values`)."""
    return tuple(values[key] for key in SIZES)


def is_too_large(sizes: Sizes, failed: Iterable[Sizes]) -> bool:
    """Whether one of those that ran out of memory is nowhere larger.

    >>> is_too_large((2, 5, 5), [(2, 4, 5)]), is_too_large((1, 9, 9), [(2, 4, 5)])
    (True, False)
    """
    return any(all(own >= other for own, other in zip(sizes, one, strict=True)) for one in failed)
