"""With which arguments the modules of a model were made, kept on the modules while a model is being built.

Generated code calls the same constructors, or writes others whose arguments these are.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

MADE_WITH = "_made_with"
"""Attribute of a recorded module: class -> parameter name -> argument."""

_patching = threading.Lock()


@contextmanager
def recorded(packages: frozenset[str]) -> Iterator[None]:
    """Modules of these packages that this thread makes inside remember their arguments."""
    thread = threading.get_ident()
    with _patching:
        kinds = {kind for kind in _kinds(nn.Module) if kind.__module__.split(".")[0] in packages}
        plain = {kind: vars(kind)["__init__"] for kind in kinds if "__init__" in vars(kind)}
        for kind, init in plain.items():
            setattr(kind, "__init__", _remembering(kind, init, thread))  # noqa: B010
        try:
            yield
        finally:
            for kind, init in plain.items():
                setattr(kind, "__init__", init)  # noqa: B010


def arguments(module: nn.Module, kind: type) -> Mapping[str, Any]:
    """What the constructor of `kind`, the module's class or a base of it, was called with.

    A part that was replaced since is the one that stands there now, where it has the parameter's name.
    """
    made: dict[type, Mapping[str, Any]] = module.__dict__.get(MADE_WITH, {})
    return {name: _now(module, name, value) for name, value in made.get(kind, {}).items()}


def _now(module: nn.Module, name: str, value: Any) -> Any:
    present = getattr(module, name, None)
    if isinstance(value, nn.Module) and isinstance(present, nn.Module):
        return present
    if isinstance(value, tuple) and isinstance(present, nn.Sequential) and _are_modules(value):
        return tuple(present.children())
    return value


def _are_modules(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, nn.Module) for value in values)


def _kinds(kind: type[nn.Module]) -> Iterator[type[nn.Module]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _kinds(sub)


def _remembering(kind: type, init: Callable[..., None], thread: int) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remember(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() == thread:
            bound = signature.bind(self, *args, **kwargs).arguments
            made = self.__dict__.setdefault(MADE_WITH, {})
            made[kind] = dict(list(bound.items())[1:])
        init(self, *args, **kwargs)

    return remember
