"""Logging of all five packages in one call: the standard library's, formatted by structlog.

Messages are constant; what varies travels in `extra`. Secrets of known shape are blotted out on the way.
"""

import logging
import sys
from typing import Any, Literal

import structlog

from search.blotting import blotted

PACKAGES = ("api", "dashboards", "search", "evaluators", "space")


def configure_logging(
    level: str = "info", form: Literal["text", "json"] = "text", stream: Any = None
) -> None:
    """Sends the packages' log lines to standard error."""
    last: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        without_rays,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last, blot_secrets],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())


def without_rays(logger: object, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Drops what Ray adds to every record of a process that it is loaded in."""
    del logger, method
    return {name: value for name, value in fields.items() if not name.startswith("_ray_")}


def blot_secrets(logger: object, method: str, line: Any) -> str:
    """API keys and passwords in addresses become `***`, wherever in the line they stand."""
    del logger, method
    return blotted(str(line))
