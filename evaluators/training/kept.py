"""Prepared data of a costly task, kept in a file for the next time.

The file is named by everything the data follow from, written whole and then renamed; one that is damaged or
cut short is made again. It is a cache: deleting it costs time and nothing else.
"""

import json
import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..protocol import fingerprint
from .data import Part, TaskData

log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")


def kept(folder: Path, name: str, version: int, length: int | None, make: Callable[[], TaskData]) -> TaskData:
    """What `make` gives, read from `folder` if it is there, else written to it."""
    key = fingerprint("prepared", 1, task=name, task_version=version, length=length, numpy=np.__version__)
    file = folder / f"{name.replace(':', '-')}-{key}.npz"
    if (found := _read(file)) is not None:
        return found
    data = make()
    try:
        _write(data, file)
    except OSError as error:  # no room for a cache is no reason to stop
        log.warning("prepared data not kept", extra={"file": str(file), "problem": str(error)})
    return data


def _read(file: Path) -> TaskData | None:
    try:
        # numpy leaves a file open that is no archive
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            parts = {
                name: Part(arrays[f"{name}.inputs"], arrays[f"{name}.targets"] if about["labels"] else None)
                for name in PARTS
            }
        data = TaskData(
            train=parts["train"], validation=parts["validation"], test=parts["test"], **about["fields"]
        )
        return data if data.digest == about["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _write(data: TaskData, file: Path) -> None:
    """Equal parts of examples have labels, or none has."""
    arrays: dict[str, Any] = {f"{name}.inputs": getattr(data, name).inputs for name in PARTS}
    labels = data.train.targets is not None
    if labels:
        arrays |= {f"{name}.targets": getattr(data, name).targets for name in PARTS}
    rest = {field.name: getattr(data, field.name) for field in fields(data) if field.name not in PARTS}
    about = json.dumps({"fields": rest, "labels": labels, "digest": data.digest})
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.stem}-{os.getpid()}.npz")
    try:
        np.savez(unfinished, about=np.array(about), **arrays)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)
