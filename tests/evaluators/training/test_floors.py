import math
from collections import Counter

import numpy as np
import pytest

from evaluators.training.floors import order_floors


def _definition(stream: bytes, window: bytes, order: int) -> float:
    """Mean bits of a window's bytes after the first, straight from the formula."""

    def probability(context: bytes, byte: int) -> float:
        shorter = probability(context[1:], byte) if context else 1 / 256
        size = len(context)
        followers = Counter(
            stream[i + size] for i in range(len(stream) - size) if stream[i : i + size] == context
        )
        if not followers:
            return shorter
        return (followers[byte] + len(followers) * shorter) / (followers.total() + len(followers))

    costs = [-math.log2(probability(window[max(0, i - order) : i], window[i])) for i in range(1, len(window))]
    return sum(costs) / len(costs)


def test_floors_equal_the_definition() -> None:
    stream, window = b"the cat sat on the mat; the hat \xff\x00", b"that cat \x01 \xff\x00\x00"
    found = order_floors(np.frombuffer(stream, np.uint8), np.frombuffer(window, np.uint8)[None])
    for order in range(3):
        assert found[f"order{order}"] == pytest.approx(_definition(stream, window, order), rel=1e-12)
