"""The pages to sign in and out: plain HTML without a script."""

import html

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · paretoformer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/app.css"></head><body>
<header class="top"><nav aria-label="Main"><a class="brand" href="/">paretoformer</a></nav></header>
<main><div class="head"><h1>{title}</h1></div>
<form class="card" method="post" action="{action}"><input type="hidden" name="csrf" value="{csrf}">
{fields}<p><button class="button primary" type="submit">{title}</button></p></form></main></body></html>
"""
_FIELDS = """<input type="hidden" name="next" value="{next}">{problem}
<p><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required maxlength="200"></p>
<p>Whoever runs this server makes one with <code>paretoformer keys create NAME</code>. It stays in this
browser, as a cookie that no script can read, for twelve hours.</p>
"""


def login_page(csrf: str, then: str, problem: str = "") -> str:
    """The form for a key; `then` is the page it leads to."""
    said = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    fields = _FIELDS.format(next=html.escape(then), problem=said)
    return _PAGE.format(title="Sign in", action="/login", csrf=html.escape(csrf), fields=fields)


def logout_page(csrf: str) -> str:
    """The button that ends the session."""
    return _PAGE.format(title="Sign out", action="/logout", csrf=html.escape(csrf), fields="")
