"""Data of the last few tasks that were sent, prepared: reading and splitting them is most of planning a job.

A file is known by its path, size, time and number; a folder is read anew every time.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from evaluators.training import TaskData, prepare_task
from search.job import TaskSpec

MAX_TASKS = 4
_Key = tuple[str, str, int | None, tuple[int, int, int] | None]


class Prepared:
    """Least recently used tasks are forgotten. Two threads may prepare the same one; either result serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[_Key, TaskData] = OrderedDict()

    def task(self, spec: TaskSpec, file: Path | None) -> TaskData:
        """
        Raises:
            InvalidInputError: data nothing can be learned from.
        """
        name = spec.dataset if file is None else str(file)
        if file is not None and not file.is_file():
            return prepare_task(spec.kind, name, spec.length)
        key = (spec.kind, name, spec.length, None if file is None else _state(file))
        with self._lock:
            if key in self._tasks:
                self._tasks.move_to_end(key)
                return self._tasks[key]
        data = prepare_task(spec.kind, name, spec.length)
        with self._lock:
            self._tasks[key] = data
            while len(self._tasks) > MAX_TASKS:
                self._tasks.popitem(last=False)
        return data


def _state(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
