"""The border for numbers and text: what is stored is finite, in range, and survives JSON on both engines."""

import math
from collections.abc import Mapping
from typing import Any

from space.errors import InvalidInputError

from ..blotting import blotted
from ..objectives import OBJECTIVES
from ..records import Spread

MAX_MESSAGE = 2000


def finite_values(what: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values as floats.

    Raises:
        InvalidInputError: NaN or infinite; zero or less where a logarithm is taken; negative; an error above
        1.
    """
    return {key: _finite_value(f"{what}.{key}", key, value) for key, value in values.items()}


def finite_spread(what: str, spread: Mapping[str, Spread]) -> None:
    """An interval may reach beyond the range of its value.

    Raises:
        InvalidInputError: an end that is NaN or infinite.
    """
    for key, interval in spread.items():
        finite_values(what, {f"{key}.low": interval.low, f"{key}.high": interval.high})


def _finite_value(where: str, key: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise InvalidInputError(f"{where}={number} is not finite; store a failed status instead")
    objective = OBJECTIVES.get(key)
    if objective is None:
        return number
    if objective.log and number <= 0:
        raise InvalidInputError(f"{where}={number:g} must be greater than 0")
    if number < 0 or (key == "error" and number > 1):
        raise InvalidInputError(
            f"{where}={number:g} is outside its range, {'[0, 1]' if key == 'error' else '>= 0'}"
        )
    return number


def finite_json(what: str, data: Any) -> Any:
    """A plain copy of `data` (tuples become lists) that JSON can hold.

    Raises:
        InvalidInputError: NaN or infinity anywhere inside, or a type JSON does not have.
    """
    if data is None or isinstance(data, (bool, int, str)):
        return data
    if isinstance(data, float):
        if not math.isfinite(data):
            raise InvalidInputError(f"{what}={data} is not finite; leave the number out")
        return float(data)
    if isinstance(data, Mapping):
        return {str(key): finite_json(f"{what}.{key}", value) for key, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        items = sorted(data) if isinstance(data, (set, frozenset)) else data
        return [finite_json(f"{what}[{index}]", value) for index, value in enumerate(items)]
    raise InvalidInputError(f"{what} is a {type(data).__name__}, which JSON does not have; convert it first")


def stored_text(text: str | None) -> str | None:
    """A message as it can be stored everywhere: no NUL, no lone surrogates, no secret of known shape, at most
    2,000 characters."""
    if text is None:
        return None
    clean = blotted(text.replace("\x00", "").encode("utf-8", "backslashreplace").decode("utf-8"))
    return clean if len(clean) <= MAX_MESSAGE else clean[: MAX_MESSAGE - 3] + "..."
