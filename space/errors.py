"""The errors of the whole project.

    ServiceError                    code: stable, machine-readable, from a closed list
      InvalidInputError             a job file, option or data set that cannot work       -> 422, exit code 2
        InvalidArchitectureError    the point lies outside the space                     -> 422
      UnsupportedError              this choice has no such proxy, export, runtime, ...  -> 422
      EvaluationError               out of memory, timeout, divergence                   -> trial status
      NotFoundError                 not there, or not yours: the same answer             -> 404
      ConflictError                 the state forbids it (finished job, old lease)       -> 409
      UnavailableError              executor or database cannot be reached now           -> 503

A message names the value, the limit and the way out, in that order. `nearest` builds the way out for names.
"""

import difflib
from collections.abc import Iterable


class ServiceError(Exception):
    """Root of everything this project raises on purpose."""

    code = "service_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInputError(ServiceError):
    """What was handed in cannot work; nothing was stored."""

    code = "invalid_input"


class InvalidArchitectureError(InvalidInputError):
    """The point lies outside the space."""

    code = "invalid_architecture"


class UnsupportedError(ServiceError):
    """This choice has no such proxy, export or runtime."""

    code = "unsupported"


class EvaluationError(ServiceError):
    """An evaluation failed; `reason` is the trial's, from the closed list of `search.records`."""

    code = "evaluation_failed"

    def __init__(self, message: str, *, reason: str = "internal", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NotFoundError(ServiceError):
    """Not there, or not yours: the same answer."""

    code = "not_found"


class ConflictError(ServiceError):
    """The state forbids it."""

    code = "conflict"


class UnavailableError(ServiceError):
    """Executor or database cannot be reached now."""

    code = "unavailable"


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest valid one, then all of them (at most 30).

    >>> nearest("sofmax", ["softmax", "pool"])
    "did you mean 'softmax'? valid: pool, softmax"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    return f"did you mean '{close[0]}'? valid: {listed}" if close else f"valid: {listed}"
