"""A ready export as one file: a zip without compression, the same bytes every time."""

import tempfile
import zipfile
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)


def zip_folder(folder: Path, name: str) -> Path:
    """Writes the folder's files below `name/` into a temporary zip; the caller removes it."""
    with tempfile.NamedTemporaryFile(prefix="paretoformer-", suffix=".zip", delete=False) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.iterdir()):
                archive.writestr(zipfile.ZipInfo(f"{name}/{path.name}", _DATE), path.read_bytes())
        return Path(file.name)
