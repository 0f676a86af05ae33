"""Runs another file where it can import what it needs: nothing of this project, no other runtime.

    python -I -S -B isolated.py REQUEST.json        {"paths", "blocked", "file", "arguments", "answer"}

The folder that is tried stays as it is: no bytecode is written there. Without `site` no `.pth` file is read,
so that an editable installation of this project is not found; `paths` are the folders of installed packages,
`blocked` names whose import fails. The answer, JSON in a file, says the most memory the process had resident
and which blocked names were imported after all.
"""

import ctypes
import json
import resource
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
KILOBYTE = 1 if sys.platform == "darwin" else 1024
"""Unit of `ru_maxrss`."""


def main(request_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.path.extend(request["paths"])
    for name in request["blocked"]:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to refuse an import
    sys.argv = [request["file"], *request["arguments"]]
    try:
        runpy.run_path(request["file"], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    answer = {
        "peak_bytes": peak_bytes(),
        "imported": [name for name in request["blocked"] if sys.modules.get(name) is not None],
    }
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def peak_bytes() -> int:
    """Linux counts what the parent had before the program began into `ru_maxrss`, but not into this line."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return 1024 * int(line.split()[1])
    return KILOBYTE * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
