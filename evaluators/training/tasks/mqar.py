"""`mqar`: associative recall. Key-value pairs, then every key once more; the answer is its value.

    k1 v1 k2 v2 ... kK vK  .  k2  .  .  k1 ...      target at a repeated key: its value; elsewhere none

With length n there are K = n / 16 pairs; the keys come again on even places behind them, where the gap g to
the pairs is drawn without replacement with probability proportional to a g^(a - 1), a = 0.01: most soon, some
late. The places between are random tokens. Keys are 1 to V/2 - 1, values V/2 to V - 1, V = 256. A causal
model answers.
Source: Arora et al. 2023, arXiv:2312.04927 (zoology). It separates attention from mixers with a small state.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from space.errors import InvalidInputError

from ..data import Part, TaskData, TaskKind
from ..losses import IGNORED
from ..task import Task

VOCAB_SIZE = 256
DEFAULT_LENGTH, TOKENS_PER_PAIR = 64, 16
EXAMPLES = {"train": 20_000, "validation": 1000, "test": 1000}
SEED = 0
POWER = 0.01

Tokens = NDArray[np.int32]


class Mqar(Task):
    """Pairs and questions -> the value of every key that is asked."""

    kind: ClassVar[TaskKind] = "sequence"
    summary: ClassVar[str] = "recall of key-value pairs; separates attention from small states"
    source: ClassVar[str] = "generated (Arora et al. 2023, arXiv:2312.04927)"
    lengths: ClassVar[str] = "64 (4 pairs), or any multiple of 16 up to 1,024: one pair in 16 tokens"

    def prepare(self, length: int | None) -> TaskData:
        length = DEFAULT_LENGTH if length is None else length
        if length % TOKENS_PER_PAIR or not 16 <= length <= 1024:
            raise InvalidInputError(
                f"task.length={length} does not fit 'mqar': a multiple of 16 from 16 to 1024; "
                "try 64, 128 or 256"
            )
        pairs = length // TOKENS_PER_PAIR
        rng = np.random.default_rng([SEED, length])
        parts = {name: Part(*recall(count, length, pairs, rng)) for name, count in EXAMPLES.items()}
        return TaskData(
            name="mqar",
            kind="sequence",
            train=parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            input="bytes",
            outputs=VOCAB_SIZE,
            batch_size=64,
            vocab_size=VOCAB_SIZE,
            preprocessing={"vocab_size": VOCAB_SIZE},
            source={"pairs": pairs, "guessing_error": 1 - 1 / pairs, "split": f"generated, seed {SEED}"},
        )


def recall(count: int, length: int, pairs: int, rng: np.random.Generator) -> tuple[Tokens, Tokens]:
    """Inputs and targets, both [count, length]."""
    half, context = VOCAB_SIZE // 2, 2 * pairs
    keys = 1 + _drawn(np.zeros(half - 1), count, pairs, rng)
    values = half + _drawn(np.zeros(half), count, pairs, rng)
    slots = (length - context) // 2
    log_odds = (POWER - 1) * np.log(np.arange(1, slots + 1))
    places = context + 2 * _drawn(log_odds, count, pairs, rng)
    inputs = rng.integers(0, VOCAB_SIZE, (count, length))
    inputs[:, 0:context:2], inputs[:, 1:context:2] = keys, values
    targets = np.full((count, length), IGNORED)
    np.put_along_axis(inputs, places, keys, axis=1)
    np.put_along_axis(targets, places, values, axis=1)
    return inputs.astype(np.int32), targets.astype(np.int32)


def _drawn(
    log_odds: NDArray[np.float64], count: int, pairs: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """`pairs` different indices per row, one after the other with these odds (Gumbel's trick)."""
    disturbed = log_odds + rng.gumbel(size=(count, len(log_odds)))
    return np.argsort(-disturbed, axis=1)[:, :pairs]
