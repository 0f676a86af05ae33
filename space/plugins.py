"""The members of a family of choices: those in this package and those of installed packages.

A package adds a choice by one file and one line of its metadata:

    [project.entry-points."paretoformer.mixers"]
    spline = "my_package.spline:SplineConfig"

From then on it is in the JSON Schema of architectures, in sampling, in costs and in `paretoformer space`.
"""

from importlib.metadata import entry_points
from typing import Annotated, Any, TypeVar, Union

from pydantic import Field

from .errors import InvalidInputError

T = TypeVar("T")


def family(group: str, base: type[T], built_in: tuple[type[T], ...]) -> dict[str, type[T]]:
    """Tag -> config class: the built-in ones first, then those of entry points `paretoformer.<group>`.

    Raises:
        InvalidInputError: an entry point is no such choice, or its tag is taken.
    """
    members: dict[str, type[T]] = {}
    for config in built_in:
        members[_tag(config)] = config
    for point in sorted(entry_points(group=f"paretoformer.{group}"), key=lambda point: point.name):
        config = point.load()
        if not (isinstance(config, type) and issubclass(config, base)):
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.{group} is {config!r}; "
                f"it must be a subclass of space.choice.{base.__name__}"
            )
        tag = _tag(config)
        if tag in members:
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.{group}: the tag '{tag}' is taken by "
                f"{members[tag].__module__}; choose another"
            )
        members[tag] = config
    return members


def tagged_union(members: dict[str, type[Any]]) -> Any:
    """The type of a config of any member, told apart by `kind`."""
    return Annotated[Union[tuple(members.values())], Field(discriminator="kind")]  # noqa: UP007


def _tag(config: Any) -> str:
    return str(config.model_fields["kind"].default)
