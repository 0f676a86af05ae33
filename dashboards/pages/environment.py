"""Templates with escaping always on, and the filters they use."""

import datetime as dt
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ..assets import TEMPLATES
from ..strip import draw_strip


def render(template: str, **values: Any) -> str:
    """A template with these values; a name it needs and does not get is an error."""
    return _environment().get_template(template).render({"here": "", **values})


def json_script(value: object) -> Markup:
    """JSON for the inside of a `script` element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def moment(value: dt.datetime) -> Markup:
    """A time in UTC; the browser shows it in the reader's zone."""
    utc = value.astimezone(dt.UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M UTC")
    )


def said(text: str) -> Markup:
    """A message as a page says it: what stands between backticks is code.

    >>> str(said("try `a < b` twice"))
    'try <code>a &lt; b</code> twice'
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def strip(architecture: Mapping[str, Any]) -> Markup:
    """The small drawing of tables; `draw_strip` escapes every text of the architecture."""
    return Markup(draw_strip(architecture))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"json_script": json_script, "moment": moment, "said": said, "strip": strip}
    return environment
