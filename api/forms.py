"""Proof that a form came from our own page: a random cookie, and its keyed digest as a hidden field.

The cookie is SameSite=Strict and HttpOnly; the digest's secret is the database's, so that forms outlive a
restart of the server.
"""

import hashlib
import hmac
import secrets

from fastapi import Request, Response

from .problems import RequestError

COOKIE = "pf_csrf"


class FormTokens:
    """Makes and checks tokens."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.new(secret, b"forms", hashlib.sha256).digest()

    def cookie(self, request: Request) -> str:
        """The visitor's cookie, or a new one."""
        known = request.cookies.get(COOKIE, "")
        return known if len(known) == 43 and known.isascii() else secrets.token_urlsafe(32)

    def token(self, cookie: str) -> str:
        """The hidden field that belongs to a cookie."""
        return hmac.new(self._secret, cookie.encode(), hashlib.sha256).hexdigest()

    def keep(self, response: Response, cookie: str) -> None:
        """Sends the cookie with a page."""
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")

    def check(self, request: Request, given: str) -> None:
        """
        Raises:
            RequestError: the form was not made by this server for this visitor.
        """
        cookie = request.cookies.get(COOKIE, "")
        right = self.token(cookie)
        if not cookie or not hmac.compare_digest(given.encode("utf-8", "replace"), right.encode()):
            raise RequestError(
                403,
                "stale_form",
                "the form is too old or not from this page",
                hint="load the page again and repeat",
            )
