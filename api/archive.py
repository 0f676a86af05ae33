"""A ready export as one file: a zip without compression, the same bytes every time."""

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)


def zip_files(contents: Mapping[str, bytes], name: str) -> Path:
    """Writes the files below `name/` into a temporary zip; the caller removes it."""
    with tempfile.NamedTemporaryFile(prefix="paretoformer-", suffix=".zip", delete=False) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for file_name, data in sorted(contents.items()):
                archive.writestr(zipfile.ZipInfo(f"{name}/{file_name}", _DATE), data)
        return Path(file.name)
