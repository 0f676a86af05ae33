"""Signed cursors: what a listing hands out is taken back only by the same listing, for the same tenant.

<where the page ended, as the storage wrote it>.<first 22 characters of the base64 HMAC-SHA256 of it all>
"""

import base64
import hashlib
import hmac
from dataclasses import replace

from search.records import Page

from .problems import RequestError

_LENGTH = 22


class Cursors:
    """Signs and checks cursors; every server of a database has the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.new(secret, b"cursors", hashlib.sha256).digest()

    def sealed(self, page: Page, listing: str, tenant: str) -> Page:
        """The page with its cursor signed."""
        if page.next_cursor is None:
            return page
        mac = self._mac(page.next_cursor, listing, tenant)
        return replace(page, next_cursor=f"{page.next_cursor}.{mac}")

    def opened(self, cursor: str | None, listing: str, tenant: str) -> str | None:
        """The storage's cursor in a signed one.

        Raises:
            RequestError: 400; this listing did not give it out.
        """
        if cursor is None:
            return None
        inner, _, mac = cursor.rpartition(".")
        if not hmac.compare_digest(
            mac.encode("utf-8", "surrogatepass"), self._mac(inner, listing, tenant).encode()
        ):
            raise RequestError(
                400, "bad_cursor", "cursor is not one this listing gave out; start again without it"
            )
        return inner

    def _mac(self, inner: str, listing: str, tenant: str) -> str:
        said = "\0".join((listing, tenant, inner)).encode("utf-8", "surrogatepass")
        digest = hmac.new(self._secret, said, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode()[:_LENGTH]
