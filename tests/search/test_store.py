"""Folders shared by machines without a common disk: whole or not there."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from search.workers.store import Store
from space.errors import UnavailableError


def machine(folder: Path, name: str) -> Store:
    return Store(folder / name, f"file://{folder / 'shared'}")


def write(store: Store, name: str, **files: str) -> None:
    place = store.folder / name
    place.mkdir(parents=True)
    for key, text in files.items():
        (place / key.replace("_", ".")).write_text(text)


def test_what_one_machine_publishes_another_fetches(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    name = "training/t/m/0/8"
    write(here, name, state_json="{}", weights_safetensors="w")
    assert not there.has(name)
    here.publish(name)
    assert there.has(name)
    assert there.steps("training/t/m/0") == [8]
    place = there.fetch(name)
    assert place == there.folder / name
    assert {path.name: path.read_text() for path in place.iterdir()} == {
        "state.json": "{}", "weights.safetensors": "w",
    }  # fmt: skip
    assert not list(place.parent.glob(".draft-*"))


def test_i8_a_folder_without_its_last_file_is_not_there(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    write(here, "training/t/m/0/8", weights_safetensors="w")
    here.publish("training/t/m/0/8")
    assert not there.has("training/t/m/0/8")
    assert there.steps("training/t/m/0") == []
    assert not there.fetch("training/t/m/0/8").exists()
    assert there.steps("training/nobody/m/0") == []


def test_without_an_address_the_folder_is_all_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "training/t/m/0/8", state_json="{}")
    store.publish("training/t/m/0/8")
    assert store.has("training/t/m/0/8")
    assert store.steps("training/t/m/0") == []
    assert store.fetch("training/x/m/0/8") == tmp_path / "training/x/m/0/8"


def test_a_store_that_cannot_be_used_says_which_without_its_address(tmp_path: Path) -> None:
    store = Store(tmp_path, "nothing://user:secret@bucket")
    with pytest.raises(UnavailableError, match="nothing://") as caught:
        store.has("training/t/m/0/8")
    assert "secret" not in caught.value.message


def test_a_data_set_is_one_file_and_goes_here_and_there(tmp_path: Path) -> None:
    here, there = machine(tmp_path, "here"), machine(tmp_path, "there")
    (here.folder / "datasets").mkdir(parents=True)
    (here.folder / "datasets" / "data_1.csv").write_text("text,label")
    assert not there.fetch_file("datasets/data_1.csv").exists()
    here.publish_file("datasets/data_1.csv")
    assert there.fetch_file("datasets/data_1.csv").read_text() == "text,label"
    assert [path.name for path in (tmp_path / "shared" / "datasets").iterdir()] == ["data_1.csv"]
    assert there.children("datasets") == ["data_1.csv"]
    assert there.size_bytes("datasets") == 10
    there.remove("datasets/data_1.csv")
    assert not machine(tmp_path, "third").fetch_file("datasets/data_1.csv").exists()
    assert there.children("nowhere") == []


def test_what_cannot_be_removed_is_left_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path, "nothing://user:secret@bucket")
    write(store, "training/t", state_json="{}")
    store.remove("training/t")
    assert not (tmp_path / "training" / "t").exists()
    assert "left behind in the store" in caplog.text
    assert "secret" not in caplog.text


class Remembering(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """As those of object stores do: a listing that was made once is not asked for again."""

    protocol = "remembering"

    def ls(self, path: str, detail: bool = False, **rest: Any) -> Any:
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True, **rest)
        found = self.dircache[path]
        return found if detail else [one["name"] for one in found]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()


def test_what_others_publish_is_seen_by_who_has_looked_before(tmp_path: Path) -> None:
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    here = machine(tmp_path, "here")
    there = Store(tmp_path / "there", f"remembering://{tmp_path / 'shared'}")
    for step in (8, 16):
        write(here, f"training/t/m/0/{step}", state_json="{}")
        here.publish(f"training/t/m/0/{step}")
        assert there.steps("training/t/m/0")[-1] == step
