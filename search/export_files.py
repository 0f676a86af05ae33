"""Published folders as they are read again: without following links, and only as they were published.

A folder is opened once and its files through it, so that nothing put in its place afterwards is read. A link,
a file with a second name, a missing file or one byte more or less makes the whole folder missing.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from space.errors import ServiceError

from .records import ArtefactRecord


class ArtefactMissingError(ServiceError):
    """The files of an export are not those that were published; the export has to be made again."""

    code = "artefact_missing"


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, and all of them on disk."""
    digest = hashlib.sha256()
    with _opened(folder) as descriptor:
        for name, file in _files(descriptor):
            digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
            os.fsync(file.fileno())
    return digest.hexdigest()


def looks_whole(data_dir: Path, artefact: ArtefactRecord) -> bool:
    """Whether a ready export has its folder with as many bytes as it was published with."""
    if artefact.path is None:
        return False
    try:
        with _opened(data_dir / artefact.path) as descriptor:
            size = sum(os.fstat(file.fileno()).st_size for _, file in _files(descriptor))
    except OSError:
        return False
    return size == artefact.size_bytes


def published_files(data_dir: Path, artefact: ArtefactRecord) -> dict[str, bytes]:
    """Name -> content of every file of a ready export, exactly as published.

    Raises:
        ArtefactMissingError: they are not.
    """
    lost = ArtefactMissingError(
        f"the files of export {artefact.id} are gone or changed; export the trial again"
    )
    if artefact.path is None:
        raise lost
    digest, contents = hashlib.sha256(), {}
    try:
        with _opened(data_dir / artefact.path) as descriptor:
            for name, file in _files(descriptor):
                contents[name] = file.read()
                digest.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    except OSError as error:
        raise lost from error
    if digest.hexdigest() != artefact.sha256:
        raise lost
    return contents


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _files(descriptor: int) -> Iterator[tuple[str, BufferedReader]]:
    """Plain files of an open folder by name.

    Raises:
        OSError: something in it is a link, has a second name, or is no file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe without a writer would be waited for
    for name in sorted(os.listdir(descriptor)):
        with os.fdopen(os.open(name, flags, dir_fd=descriptor), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise OSError(f"'{name}' is a link or no file")
            yield name, file
