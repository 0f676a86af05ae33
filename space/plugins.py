"""The members of a family of choices: those in this package and those of installed packages.

A package adds a choice by one file and one line of its metadata:

    [project.entry-points."paretoformer.mixers"]
    spline = "my_package.spline:SplineConfig"

From then on it is in the JSON Schema of architectures, in sampling, in costs and in `paretoformer space`.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import Field

from .errors import InvalidInputError

T = TypeVar("T")


def family(group: str, base: type[T], built_in: tuple[type[T], ...]) -> dict[str, type[T]]:
    """Tag -> config class: the built-in ones first, then those of entry points `paretoformer.<group>`.

    Raises:
        InvalidInputError: an entry point does not load, is no such choice, lacks its tag or a fact of its
            family, or its tag is taken.
    """
    members: dict[str, type[T]] = {}
    for config in built_in:
        members[_tag(config)] = config
    for point in sorted(entry_points(group=f"paretoformer.{group}"), key=lambda point: point.name):
        config = _loaded(point)
        if not (isinstance(config, type) and issubclass(config, base)):
            raise InvalidInputError(
                f"entry point '{point.name}' of paretoformer.{group} is {config!r}; "
                f"it must be a subclass of space.choice.{base.__name__}"
            )
        _check_declared(config, point)
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


def _loaded(point: EntryPoint) -> Any:
    """What the entry point names. Whatever its module does wrong at import is one clear error."""
    try:
        return point.load()
    except Exception as error:
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InvalidInputError(
            f"entry point '{point.name}' of {point.group}, {point.value} of package {_package(point)}, "
            f"cannot be loaded: {told}; repair or uninstall that package"
        ) from error


def _check_declared(config: Any, point: EntryPoint) -> None:
    """A tag that tells the choice apart, and every class variable of the family that has no default."""
    where = f"entry point '{point.name}' of {point.group}: {config.__name__}"
    annotation, tag = config.model_fields["kind"].annotation, config.model_fields["kind"].default
    if get_origin(annotation) is not Literal or get_args(annotation) != (tag,) or not isinstance(tag, str):
        name = tag if isinstance(tag, str) and tag else "my_choice"
        raise InvalidInputError(f'{where} has no tag of its own; write kind: Literal["{name}"] = "{name}"')
    missing = sorted(name for name in config.__class_vars__ if not hasattr(config, name))
    if missing:
        raise InvalidInputError(
            f"{where} does not say {', '.join(missing)}; write each as a class variable, as "
            "examples/own_mixer does"
        )


def _package(point: EntryPoint) -> str:
    return point.module.partition(".")[0] if point.dist is None else point.dist.name


def _tag(config: Any) -> str:
    return str(config.model_fields["kind"].default)
