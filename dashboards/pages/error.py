"""What a person sees when a page cannot be shown: a sentence and a way back, no internals."""

from .environment import render


def error_page(status: int, title: str, detail: str, *, hint: str | None = None) -> str:
    """HTML for an HTTP status."""
    return render("error.html", status=status, title=title, detail=detail, hint=hint)
