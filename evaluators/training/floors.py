"""What a text costs without a network: bits per byte of byte-count models of order 0, 1 and 2.

    p_k(c | u) = (n(u c) + t(u) p_{k-1}(c | u')) / (n(u) + t(u)),   p_{-1} = 1/256

u: the last k bytes, u' without the oldest; n: how often in the training part; t(u): how many different bytes
follow u. Source: Witten & Bell 1991 (interpolated method C). Counted on the training part, read on the
validation windows with the context a model has there.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .data import Array

MAX_COUNTED = 2**24
"""Bytes counted at most: more text moves the floors little."""


def order_floors(train: Array, windows: Array) -> Mapping[str, float]:
    """Bits per byte on windows [windows, length + 1], keys `order0`, `order1`, `order2`."""
    stream = train[:MAX_COUNTED].astype(np.int64)
    past = windows.astype(np.int64)
    targets = past[:, 1:]
    contexts = [np.zeros_like(targets), past[:, :-1]]
    contexts.append((np.pad(past[:, :-2], ((0, 0), (1, 0))) << 8) | past[:, :-1])
    probability: NDArray[np.float64] = np.full(targets.shape, 1 / 256)
    floors = {}
    for order, context in enumerate(contexts):
        longer = _interpolated(_counts(stream, order), context, targets, probability)
        if order == 2:  # the second byte of a window has one byte before it
            longer[:, 0] = probability[:, 0]
        probability = longer
        floors[f"order{order}"] = float(-np.log2(probability).mean())
    return floors


def _counts(stream: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Occurrences [256 ** order contexts, 256 next bytes]."""
    keys = np.zeros(len(stream) - order, dtype=np.int64)
    for offset in range(order + 1):
        keys = (keys << 8) | stream[offset : len(stream) - order + offset]
    return np.bincount(keys, minlength=256 ** (order + 1)).reshape(-1, 256)


def _interpolated(
    counts: NDArray[np.int64],
    context: NDArray[np.int64],
    targets: NDArray[np.int64],
    shorter: NDArray[np.float64],
) -> NDArray[np.float64]:
    seen, different = counts.sum(1)[context], (counts > 0).sum(1)[context]
    total = np.maximum(seen + different, 1)
    return np.where(seen > 0, (counts[context, targets] + different * shorter) / total, shorter)
