"""Self-contained Python code of a built model."""

from .blocks import article
from .generating import generate, packages_of
from .recording import recorded

__all__ = ["article", "generate", "packages_of", "recorded"]
