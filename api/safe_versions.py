"""The oldest versions a server runs with: below them known holes are open. Checked at its start.

Raise a line when an advisory says so; `make audit` asks the advisory database about everything installed.
"""

import importlib.metadata
import re
from collections.abc import Callable, Mapping

from space.errors import UnsupportedError

LEAST: Mapping[str, tuple[str, str]] = {
    "h11": ("0.16.0", "CVE-2025-43859, request smuggling"),
    "starlette": ("0.49.1", "CVE-2025-62727, Range header"),
    "jinja2": ("3.1.6", "CVE-2025-27516, sandbox"),
    "torch": ("2.6.0", "CVE-2025-32434, loading of checkpoints"),
    "onnx": ("1.17.0", "CVE-2024-5187, archives"),
    "pyarrow": ("14.0.1", "CVE-2023-47248, code in files"),
    "pillow": ("11.3.0", "CVE-2025-48379, images"),
    "ray": ("2.52.0", "CVE-2025-62593, code from a browser"),
}


def check_versions(version_of: Callable[[str], str] = importlib.metadata.version) -> None:
    """
    Raises:
        UnsupportedError: a package is older than is safe.
    """
    old = [
        f"{name} {found} ({why}): at least {least}"
        for name, (least, why) in LEAST.items()
        if _numbers(found := version_of(name)) < _numbers(least)
    ]
    if old:
        raise UnsupportedError(
            f"unsafe packages: {'; '.join(old)}", hint="install with `pip install -c constraints.txt -e .`"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """
    >>> _numbers("2.13.0+cpu"), _numbers("1.32rc1")
    ((2, 13, 0), (1, 32))
    """
    release = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()
