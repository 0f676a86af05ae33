"""Checkpoints of one training, on a disk that can fail at any moment.

    <folder>/<training_id>/<fingerprint>/<seed>/<step>/{weights,optimizer}.safetensors + state.json

A checkpoint is written beside its place, flushed, and renamed into it; `state.json` holds the SHA-256 of the
two other files. One that is incomplete or damaged is ignored with a warning. No pickles.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from space.errors import InvalidInputError

log = logging.getLogger(__name__)

FORMAT = 1
STALE_S = 3600.0
"""Age from which a half-written checkpoint belongs to a dead process."""
_FILES = ("weights.safetensors", "optimizer.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """JSON: what the loop needs besides tensors, under keys of its own."""


def training_folder(folder: Path, training_id: str, fingerprint: str, seed: int) -> Path:
    return folder / training_id / fingerprint / str(seed)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: bool) -> Path:
    """Writes `folder/<step>`. `keep=False`: a stop on the way, removed once a later checkpoint is there.

    Raises:
        OSError: the disk is full or not writable; no partial checkpoint is visible.
    """
    place = folder / str(checkpoint.step)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft-{uuid.uuid4().hex}"
    tensors = (dict(checkpoint.weights), dict(checkpoint.optimizer))
    blobs = dict(zip(_FILES, map(save_tensors, tensors), strict=True))
    state = {
        **checkpoint.state,
        "format": FORMAT,
        "step": checkpoint.step,
        "keep": keep,
        "sha256": {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()},
    }
    try:
        draft.mkdir()
        for name, blob in (*blobs.items(), ("state.json", json.dumps(state, allow_nan=False).encode())):
            _write(draft / name, blob)
        _sync(draft)
        _publish(draft, place, keep=keep)
        _sync(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _remove_passed(folder, checkpoint.step)
    return place


def load_checkpoint(place: Path) -> Checkpoint | None:
    """The checkpoint in this folder; None, with a warning, when it is incomplete or damaged."""
    try:
        state = json.loads((place / "state.json").read_bytes())
        blobs = [(place / name).read_bytes() for name in _FILES]
        if state["format"] != FORMAT or int(state["step"]) < 1:
            raise ValueError(f"format {state['format']}, step {state['step']}")
        for name, blob in zip(_FILES, blobs, strict=True):
            if hashlib.sha256(blob).hexdigest() != state["sha256"][name]:
                raise ValueError(f"{name} does not have the recorded SHA-256")
        return Checkpoint(int(state["step"]), load_tensors(blobs[0]), load_tensors(blobs[1]), state)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        log.warning("checkpoint ignored", extra={"checkpoint": str(place), "cause": str(error)})
        return None


def newest_checkpoint(folder: Path, until: int) -> Checkpoint | None:
    """The intact checkpoint with the most steps, at most `until`."""
    for step in sorted((step for step in _steps(folder) if step <= until), reverse=True):
        checkpoint = load_checkpoint(folder / str(step))
        if checkpoint is not None:
            return checkpoint
    return None


def remove_drafts(folder: Path) -> None:
    """Removes what processes left behind that died while writing."""
    for draft in folder.glob(".draft-*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE_S:
                shutil.rmtree(draft, ignore_errors=True)


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Copies a checkpoint's weights (a folder of `train`) into a model of the same architecture.

    Raises:
        InvalidInputError: the checkpoint is missing or damaged, or belongs to another architecture.
    """
    stored = load_checkpoint(checkpoint)
    if stored is None:
        raise InvalidInputError(
            f"checkpoint '{checkpoint}' is missing or damaged; train the architecture again"
        )
    copy_weights(stored.weights, model)


def copy_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """In place; names and shapes must agree exactly."""
    own = model_tensors(model)
    for name in sorted(own.keys() | weights.keys()):
        here, there = (tuple(side[name].shape) if name in side else None for side in (own, weights))
        if here != there:
            raise InvalidInputError(
                f"weight '{name}' has shape {there} in the checkpoint and {here} in the model; "
                "use the architecture it was trained as"
            )
    model.load_state_dict(dict(weights), strict=False)  # the other names of shared weights are not stored


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters (a shared one once) and stored buffers by name."""
    kept = model.state_dict(keep_vars=True)
    shared: set[int] = set()
    tensors = {}
    for name, tensor in kept.items():
        if id(tensor) not in shared:
            tensors[name] = tensor.detach().contiguous()
            shared.add(id(tensor))
    return tensors


def _publish(draft: Path, place: Path, *, keep: bool) -> None:
    """Renames into place. Another process may have been faster: what it wrote stays if it serves as well."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            os.rename(draft, place)
            return
        there = load_checkpoint(place)
        if there is not None and (there.state["keep"] or not keep):
            return
        with contextlib.suppress(OSError):
            passed = draft.with_name(f".draft-{uuid.uuid4().hex}")
            os.rename(place, passed)
            shutil.rmtree(passed, ignore_errors=True)
    os.rename(draft, place)


def _remove_passed(folder: Path, step: int) -> None:
    for passed in (other for other in _steps(folder) if other < step):
        with contextlib.suppress(OSError, ValueError, KeyError):
            if not json.loads((folder / str(passed) / "state.json").read_bytes())["keep"]:
                shutil.rmtree(folder / str(passed), ignore_errors=True)


def _steps(folder: Path) -> Iterator[int]:
    if folder.is_dir():
        yield from (int(entry.name) for entry in list(folder.iterdir()) if entry.name.isdecimal())


def _write(path: Path, blob: bytes) -> None:
    with path.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
