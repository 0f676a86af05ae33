import json
import logging
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluators.training import load_weights
from evaluators.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    model_tensors,
    newest_checkpoint,
    remove_drafts,
    save_checkpoint,
)
from space.errors import InvalidInputError


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step, {"w": torch.full((3, 2), float(step))}, {"w/step": torch.tensor(1.0)}, {"note": "x"}
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, _checkpoint(5), keep=True)
    found = load_checkpoint(place)
    assert found is not None
    assert (found.step, found.state["note"]) == (5, "x")
    torch.testing.assert_close(found.weights["w"], torch.full((3, 2), 5.0), rtol=0, atol=0)
    assert sorted(path.name for path in place.iterdir()) == [
        "optimizer.safetensors", "state.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_newest_within_the_limit_is_found(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        save_checkpoint(tmp_path, _checkpoint(step), keep=True)
    found = newest_checkpoint(tmp_path, 99)
    assert found is not None
    assert found.step == 20
    assert newest_checkpoint(tmp_path, 4) is None
    assert newest_checkpoint(tmp_path / "nowhere", 4) is None


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, _checkpoint(5), keep=True)
    path = save_checkpoint(tmp_path, _checkpoint(20), keep=True) / name
    raw = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"")
    if (name, damage) == ("state.json", "flip"):
        path.write_bytes(b"[]")
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(tmp_path, 100)
    assert found is not None
    assert found.step == 5
    assert "checkpoint ignored" in caplog.text


def test_a_damaged_checkpoint_is_replaced(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, _checkpoint(5), keep=True)
    (place / "state.json").unlink()
    save_checkpoint(tmp_path, _checkpoint(5), keep=True)
    assert load_checkpoint(place) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["5"]


def test_stops_on_the_way_go_when_they_are_passed(tmp_path: Path) -> None:
    for step, keep in ((5, True), (10, False), (15, False), (20, True)):
        save_checkpoint(tmp_path, _checkpoint(step), keep=keep)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [5, 20]


def test_a_stop_on_the_way_can_become_one_to_keep(tmp_path: Path) -> None:
    for keep in (False, True, False):
        place = save_checkpoint(tmp_path, _checkpoint(5), keep=keep)
    assert json.loads((place / "state.json").read_text())["keep"]


def test_a_failed_write_leaves_nothing_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, _checkpoint(5), keep=True)
    assert list(tmp_path.iterdir()) == []


def test_only_old_drafts_are_removed(tmp_path: Path) -> None:
    for name, age_s in ((".draft-old", 7200), (".draft-new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, times=(time.time() - age_s,) * 2)
    remove_drafts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".draft-new"]


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


def test_shared_weights_are_stored_once_and_stay_shared(tmp_path: Path) -> None:
    one, other = _Tied(), _Tied()
    tensors = model_tensors(one)
    assert list(tensors) == ["embedding.weight"]
    place = save_checkpoint(tmp_path, Checkpoint(1, tensors, {}, {}), keep=True)
    load_weights(other, place)
    assert other.head.weight is other.embedding.weight
    torch.testing.assert_close(other.head.weight, one.head.weight, rtol=0, atol=0)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    place = save_checkpoint(tmp_path, _checkpoint(1), keep=True)
    with pytest.raises(InvalidInputError, match="weight 'bias' has shape None in the checkpoint and"):
        load_weights(nn.Linear(2, 3), place)
    with pytest.raises(InvalidInputError, match="is missing or damaged"):
        load_weights(nn.Linear(2, 3), tmp_path / "2")
