"""Two trained architectures on the same validation examples, example by example.

    d_i = loss_i(one) - loss_i(other)        mean d +- standard error of d over the examples

Easy and hard examples are easy and hard for both, so the error of the difference is several times smaller
than that of either mean. It covers the choice of examples, not the luck of a training: other seeds differ by
more.
"""

import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from space.errors import InvalidInputError

NAME = "losses.safetensors"

Losses = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean of one minus other, in nats; negative: the first is better."""

    mean: float
    standard_error: float
    examples: int

    @property
    def is_tied(self) -> bool:
        """Within two standard errors."""
        return abs(self.mean) <= 2 * self.standard_error


def paired_difference(one: Losses, other: Losses) -> Paired:
    """Of losses per example, in the same order.

    Raises:
        InvalidInputError: not of the same examples, or fewer than two.
    """
    if one.shape != other.shape or one.ndim != 1 or len(one) < 2:
        raise InvalidInputError(
            f"losses of {len(one)} and {len(other)} examples cannot be paired; "
            "evaluate both on the same two or more"
        )
    difference = one - other
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return Paired(float(difference.mean()), error, len(difference))


def save_losses(checkpoint: Path, losses: Losses) -> None:
    """Keeps the losses of a checkpoint's validation examples in its folder, in float32.

    Raises:
        OSError: the disk is full or not writable; no partial file is visible.
    """
    draft = checkpoint / f".{uuid.uuid4().hex}"
    try:
        draft.write_bytes(save({"losses": torch.from_numpy(losses.astype(np.float32))}))
        os.replace(draft, checkpoint / NAME)
    finally:
        draft.unlink(missing_ok=True)


def load_losses(checkpoint: Path) -> Losses | None:
    """What `save_losses` kept; None where nothing is, or what is there cannot be read."""
    try:
        return load((checkpoint / NAME).read_bytes())["losses"].double().numpy()
    except (OSError, SafetensorError, KeyError):
        return None
