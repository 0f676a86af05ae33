"""What several machines share without a common disk: checkpoints, exports and data sets, through fsspec.

    local folder/<name>   <- fetch --   url/<name>      a folder counts as there once its last file is there,
                          -- publish ->                 a data set is one file

Without a URL the local folder is all there is: one machine, or a disk that all of them mount.
"""

import logging
import os
import shutil
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

from space.errors import UnavailableError

from ..storage.database import Database

log = logging.getLogger(__name__)

LAST = {"training": "state.json", "exports": "export_report.json"}
"""First part of a name -> the file that is written last."""


class Store:
    """`folder` is this machine's copy; `url` any address fsspec understands (s3://..., file:///...)."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        self.url = url

    def has(self, name: str) -> bool:
        """Whether the folder `name` is complete here or there."""
        last = LAST[name.partition("/")[0]]
        if (self.folder / name / last).exists():
            return True
        return self.url is not None and bool(self._try(lambda: self._remote.exists(self._at(name, last))))

    def fetch(self, name: str) -> Path:
        """The local folder; copied here when it is only there. It may be missing: then it is nowhere."""
        place = self.folder / name
        if self.url is None or (place / LAST[name.partition("/")[0]]).exists() or not self.has(name):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".draft-{uuid.uuid4().hex}")
        draft.mkdir()
        try:
            for path in self._try(lambda: self._remote.ls(self._at(name), detail=False)):
                self._try(lambda path=path: self._remote.get_file(path, str(draft / path.rpartition("/")[2])))
            shutil.rmtree(place, ignore_errors=True)
            os.replace(draft, place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return place

    def publish(self, name: str) -> None:
        """Copies a complete local folder there; its last file goes last, so that nobody sees a part of it."""
        if self.url is None:
            return
        last = LAST[name.partition("/")[0]]
        files = sorted((self.folder / name).iterdir(), key=lambda path: (path.name == last, path.name))
        self._try(lambda: self._remote.makedirs(self._at(name), exist_ok=True))
        for path in (path for path in files if path.is_file()):
            self._try(lambda path=path: self._remote.put_file(str(path), self._at(name, path.name)))

    def publish_file(self, name: str) -> None:
        """Copies one local file there under a temporary name, and renames it."""
        if self.url is None:
            return
        draft = f"{self._at(name)}.{uuid.uuid4().hex}"
        self._try(lambda: self._remote.makedirs(draft.rpartition("/")[0], exist_ok=True))
        self._try(lambda: self._remote.put_file(str(self.folder / name), draft))
        self._try(lambda: self._remote.mv(draft, self._at(name)))

    def fetch_file(self, name: str) -> Path:
        """The local file; copied here when it is only there. It may be missing: then it is nowhere."""
        place = self.folder / name
        if self.url is None or place.exists() or not self._try(lambda: self._remote.exists(self._at(name))):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".draft-{uuid.uuid4().hex}")
        try:
            self._try(lambda: self._remote.get_file(self._at(name), str(draft)))
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
        return place

    def remove(self, name: str) -> None:
        """A folder or a file, here and there; what a store that is away keeps is left behind and logged."""
        place = self.folder / name
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        try:
            if self.url is not None and self._try(lambda: self._remote.exists(self._at(name))):
                self._try(lambda: self._remote.rm(self._at(name), recursive=True))
        except UnavailableError as error:
            log.warning("left behind in the store", extra={"folder": name, "cause": error.message})

    def children(self, name: str) -> list[str]:
        """Names of what lies in a folder, here or there."""
        place = self.folder / name
        found = {path.name for path in place.iterdir()} if place.is_dir() else set[str]()
        if self.url is not None and self._try(lambda: self._remote.isdir(self._at(name))):
            there = self._try(lambda: self._remote.ls(self._at(name), detail=False))
            found |= {path.rstrip("/").rpartition("/")[2] for path in there}
        return sorted(found)

    def size_bytes(self, name: str) -> int:
        """Of a folder's files; there, if it is there."""
        if self.url is not None and self._try(lambda: self._remote.exists(self._at(name))):
            return int(self._try(lambda: self._remote.du(self._at(name))))
        return sum(file.stat().st_size for file in (self.folder / name).rglob("*") if file.is_file())

    def steps(self, name: str) -> list[int]:
        """Complete checkpoints of a training that are there, by their number of steps."""
        if self.url is None or not self._try(lambda: self._remote.isdir(self._at(name))):
            return []
        found = self._try(lambda: self._remote.ls(self._at(name), detail=False))
        steps = [text for path in found if (text := path.rstrip("/").rpartition("/")[2]).isdecimal()]
        return sorted(int(text) for text in steps if self.has(f"{name}/{text}"))

    @property
    def _remote(self) -> Any:
        """Without the listings that it remembers: other machines write there too."""
        filesystem = self._opened[0]
        filesystem.invalidate_cache()
        return filesystem

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(self.url)
        return filesystem, str(root).rstrip("/")

    def _at(self, *parts: str) -> str:
        return "/".join((self._opened[1], *parts))

    def _try(self, call: Any) -> Any:
        """
        Raises:
            UnavailableError: the store does not answer, or does not let us in.
        """
        try:
            return call()
        except (OSError, ImportError, ValueError) as error:
            shown = str(self.url).partition("://")[0]
            raise UnavailableError(
                f"the {shown}:// store of the data folder cannot be used ({type(error).__name__}); "
                "check its address and credentials on every machine"
            ) from error


def store_of(database: Database) -> Store:
    """The data folder as all machines see it."""
    return Store(database.data_dir, database.data_url)
