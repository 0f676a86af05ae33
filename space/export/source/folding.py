"""What is the same in every module of a class, so that generated code need not ask.

A condition over constants of all instances (`self.causal`, `self.gate is None`, `len(self.directions) > 1`),
over the mode (`self.training` is False: code is generated for evaluation), or over ONNX's exporter (never
there) has one value; a branch that is never taken is left out.
"""

import ast
import builtins
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

import torch
from torch import nn

from ...errors import ServiceError
from .recording import arguments
from .symbols import ModuleSource, Program, Symbol

EXPORTING = ("torch.onnx.is_in_onnx_export", "torch.compiler.is_exporting")
"""Questions whose answer is no."""
FUSED = Symbol("space.kernels.dispatch", "fused")
"""Chooses a kernel of this project; generated code has the plain forms."""
PURE = frozenset({"len", "isinstance", "bool", "int", "float", "max", "min", "abs", "tuple", "range"})


class Unknown:
    """No constant."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: module, class of its method, local names, and what is known of them."""

    source: ModuleSource
    kind: type[nn.Module] | None
    local: frozenset[str] = frozenset()
    typed: Mapping[str, type[nn.Module]] = field(default_factory=dict)
    """Parameter -> the class of module that it is."""
    known: dict[str, Any] = field(default_factory=dict)
    """Local name -> the one value that it has."""
    once: frozenset[str] = frozenset()
    """Local names that are bound at one place."""
    dropped: frozenset[str] = frozenset()
    """Of them those that nothing reads."""

    @property
    def module(self) -> str:
        return self.source.module.__name__


class Constants:
    """Evaluates expressions on all instances of the class they stand in."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        self.program = program
        self.kept: dict[type[nn.Module], bool] = {}
        """Whether a class keeps its constructor; see `constructors.is_kept`."""
        self.instances: dict[type[nn.Module], list[nn.Module]] = {}
        for module in all_modules(model):
            for kind in type(module).__mro__[: type(module).__mro__.index(nn.Module)]:
                self.instances.setdefault(kind, []).append(module)

    def of(self, node: ast.expr, scope: Scope) -> Any:
        """The one plain value of an expression, or UNKNOWN."""
        match node:
            case ast.Constant(value=value):
                return value if is_plain(value) else UNKNOWN
            case ast.Name(id=name) if name in scope.known:
                return scope.known[name]
            case ast.Call(func=ast.Name(id=name)) if self._is(name, FUSED, scope):
                return None
            case ast.Call(func=ast.Attribute()) if ast.unparse(node.func) in EXPORTING:
                return False
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, ast.expr() as asked]):
                if not any(self._is_there(name, scope) for name in _alternatives(asked)):
                    return False
            case ast.BoolOp(op=op, values=values):
                decides = isinstance(op, ast.Or)
                found = [self.of(value, scope) for value in values]
                if any(value is not UNKNOWN and bool(value) == decides for value in found):
                    return decides
                if all(value is not UNKNOWN for value in found):
                    return not decides
            case ast.NamedExpr(value=value):
                return self.of(value, scope)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                decided = self.of(test, scope)
                return UNKNOWN if decided is UNKNOWN else self.of(body if decided else orelse, scope)
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(None)]):
                value = self.of(left, scope)
                if value is not UNKNOWN:
                    return (value is None) == isinstance(op, ast.Is)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value = self.of(operand, scope)
                return UNKNOWN if value is UNKNOWN else not value
            case _:
                pass
        return self._on_instances(node, scope)

    def function(self, node: ast.expr, scope: Scope) -> Symbol | None:
        """The one function of ours that an expression chooses out of a table, for example by a setting."""
        if not isinstance(node, ast.Subscript) or not self._is_pure(node, scope):
            return None
        found = {id(value): value for value in self._values(node, scope)}
        value = next(iter(found.values()), None)
        if len(found) != 1 or not callable(value) or not hasattr(value, "__qualname__"):
            return None
        name, home = str(value.__qualname__), str(value.__module__)
        symbol = self.program.find(home, name) if self.program.owns(home) else None
        return symbol if isinstance(symbol, Symbol) else None

    def attribute(self, kind: type[nn.Module], name: str) -> Any:
        """The one plain value of an attribute in all instances of a class, or UNKNOWN."""
        return _common([getattr(one, name, UNKNOWN) for one in self.instances.get(kind, [])])

    def is_identity(self, kind: type[nn.Module], name: str) -> bool:
        """Whether an attribute is a module that gives back its input, in all instances."""
        found = [getattr(one, name, None) for one in self.instances.get(kind, [])]
        return bool(found) and all(type(child) is nn.Identity for child in found)

    def _is(self, name: str, symbol: Symbol, scope: Scope) -> bool:
        return name not in scope.local and self.program.find(scope.module, name) == symbol

    def _on_instances(self, node: ast.expr, scope: Scope) -> Any:
        if not self._is_pure(node, scope):
            return UNKNOWN
        return _common(list(self._values(node, scope)))

    def _values(self, node: ast.expr, scope: Scope) -> Iterator[Any]:
        """Of the expression on every instance of the class that its names stand for."""
        names = _names(node)
        kinds: dict[str, type[nn.Module]] = {name: scope.typed[name] for name in names & set(scope.typed)}
        if "self" in names and scope.kind is not None:
            kinds["self"] = scope.kind
        known = {name: scope.known[name] for name in names & set(scope.known)}
        if len(kinds) > 1 or not (kinds or known):
            yield UNKNOWN
            return
        code = _compiled(node)
        globals_ = {**vars(scope.source.module), **known}
        name, kind = next(iter(kinds.items()), ("", nn.Module))
        for one in self.instances.get(kind, []) if name else [None]:
            try:
                yield eval(code, globals_, {name: one} if name else {})
            except (AttributeError, TypeError, ValueError, LookupError, RuntimeError, ServiceError):
                yield UNKNOWN

    def _is_pure(self, node: ast.expr, scope: Scope) -> bool:
        """Only attributes, comparisons and harmless calls of known names and of globals."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and not (
                isinstance(inner.func, ast.Name) and inner.func.id in PURE
            ):
                return False
            if isinstance(inner, ast.Lambda | ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
                return False
            if isinstance(inner, ast.Name) and not self._is_known_name(inner.id, scope):
                return False
        return True

    def _is_known_name(self, name: str, scope: Scope) -> bool:
        if name in scope.known or name in scope.typed or (name == "self" and scope.kind is not None):
            return True
        if name in scope.local:
            return False
        source = scope.source
        return name in source.definitions or name in source.imports or hasattr(builtins, name)

    def _is_there(self, node: ast.expr, scope: Scope) -> bool:
        """Whether the model has a module of the class; True for what is no class of ours."""
        if not isinstance(node, ast.Name):
            return True
        symbol = self.program.find(scope.module, node.id)
        if not isinstance(symbol, Symbol):
            return True
        value = self.program.value(symbol)
        return not (isinstance(value, type) and issubclass(value, nn.Module)) or value in self.instances


def all_modules(model: nn.Module) -> list[nn.Module]:
    """Those of a model, and those that their constructors were called with."""
    found: dict[nn.Module, None] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = None
            given = [value for kind in type(module).__mro__ for value in arguments(module, kind).values()]
            waiting += [*module.children(), *(value for value in given if isinstance(value, nn.Module))]
    return list(found)


@lru_cache(maxsize=4096)
def _compiled(node: ast.expr) -> CodeType:
    return compile(ast.Expression(node), "<expression>", "eval")


def is_plain(value: object) -> bool:
    """What can be written down: numbers, words, None, and tuples, lists and records of these."""
    if isinstance(value, tuple | list):
        return all(is_plain(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(is_plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def _common(values: Sequence[Any]) -> Any:
    """The value that all of them are, where it is plain."""
    if not values or not is_plain(values[0]):
        return UNKNOWN
    same = all(type(value) is type(values[0]) and value == values[0] for value in values[1:])
    return values[0] if same else UNKNOWN


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
