"""Where the browser's files are: our own in `static/`, Plotly's bundle in its wheel."""

import importlib.util
from functools import cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"


def static_dir() -> Path:
    """Folder served as `/static`."""
    return STATIC


def plotly_bundle() -> Path:
    """`plotly.min.js` of the installed plotly, to be served as `/static/plotly.min.js`."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("plotly is not installed")
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


@cache
def static_text(name: str) -> str:
    """A file of `static/`, for inlining into the offline report."""
    return (STATIC / name).read_text(encoding="utf-8")
