"""Classes written anew: the methods that the model reaches, and a constructor without configs.

A constructor that takes numbers, words and modules stays as it is. One that reads a config or the model's
surroundings is replaced by one that is given what the old one made of them: settings by name, the modules
inside, and shapes. Constants that are no weights are computed by the old one's own expressions.
"""

import ast
import copy
import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

from torch import nn

from ...choice import FeedForward, Norm
from .constructors import Parameter, is_kept, rebuilt
from .emission import Emitter
from .folding import Scope
from .symbols import External, ModuleSource, Symbol
from .syntax import overridden, signature_lines
from .text import wrapped

Methods = dict[str, ast.FunctionDef]
HEADS = "space.embedding"
PROTOCOL = frozenset({"forward", "_apply"})
"""Methods that torch calls."""


class ClassWriter:
    """Writes classes with one emitter; what it learns of one class decides about others."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def lines(self, symbol: Symbol) -> list[str]:
        """A class; no lines for a base of which nothing is left."""
        kind = self.emitter.program.value(symbol)
        assert isinstance(kind, type)
        node = self.emitter.program.definition(symbol)
        assert isinstance(node, ast.ClassDef)
        source = self.emitter.program.source(symbol.module)
        if not issubclass(kind, nn.Module):
            return self._plain(source, node, kind)
        body = [*self._attributes(source, node, kind), *self._constructor(source, node, kind)]
        for method in self._methods(node, kind):
            body += ["", *self._method(source, method, kind)]
        if not body and self._is_only_base(kind):
            return []
        head = self._header(node, symbol, self.bases(kind))
        return [*head, *self._docstring(source, node, kind), *_without_first_blank(body)]

    def bases(self, kind: type) -> list[str]:
        """Names of the bases that are left; torch's Module where none is."""
        found: list[str] = []
        for base in kind.__bases__:
            if not self.emitter.program.owns(base.__module__):
                found += [] if base is object else self._foreign(base)
                continue
            symbol = Symbol(base.__module__, base.__name__)
            if self._is_left(symbol, base):
                found.append(self.emitter.use(symbol))
            else:
                found += self.bases(base)
        return list(dict.fromkeys(found))

    def _foreign(self, base: type) -> list[str]:
        if base is nn.Module:
            self.emitter.externals.add(External("torch", "nn"))
            return ["nn.Module"]
        return []

    def _is_left(self, symbol: Symbol, base: type) -> bool:
        """Whether a base still says anything."""
        probe = ClassWriter(_copy(self.emitter))
        return bool(probe.lines(symbol))

    def _is_only_base(self, kind: type[nn.Module]) -> bool:
        """No module of the model is of exactly this class."""
        return all(type(one) is not kind for one in self.emitter.constants.instances.get(kind, []))

    def _header(self, node: ast.ClassDef, symbol: Symbol, bases: Sequence[str]) -> list[str]:
        name = self.emitter.names.get(symbol, node.name)
        return [f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"]

    def _docstring(self, source: ModuleSource, node: ast.ClassDef, kind: type) -> list[str]:
        if ast.get_docstring(node) is None:
            return []
        return [*self.emitter._raw(node.body[0], Scope(source, None), 4), ""]

    def _attributes(self, source: ModuleSource, node: ast.ClassDef, kind: type) -> list[str]:
        """Class variables that something reads, and declarations of buffers."""
        scope, lines = Scope(source, None), []
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name = statement.targets[0].id
            else:
                continue
            if name in self.emitter.attributes and not self._is_folded(kind, name):
                written, _ = self.emitter.statement(statement, scope, 4)
                lines += written
        return lines

    def _is_folded(self, kind: type, name: str) -> bool:
        return issubclass(kind, nn.Module) and self.emitter.constants.attribute(kind, name) is None

    def _methods(self, node: ast.ClassDef, kind: type[nn.Module]) -> Iterator[ast.FunctionDef]:
        for method in (inner for inner in node.body if isinstance(inner, ast.FunctionDef)):
            is_read = method.name in self.emitter.attributes or method.name in PROTOCOL
            if method.name == "__init__" or not is_read or method.name in UNREACHED:
                continue
            users = {type(one) for one in self.emitter.constants.instances.get(kind, [])}
            if overridden(kind, method.name, list(users)) and method.name not in self.emitter.supers:
                continue
            yield method

    def _method(self, source: ModuleSource, node: ast.FunctionDef, kind: type[nn.Module]) -> list[str]:
        """A norm, a feed-forward or a head that does not read the mask is not given it."""
        lines = self.emitter.function(source, node, kind, 4)
        is_part = issubclass(kind, Norm | FeedForward) or source.module.__name__ == HEADS
        if not is_part or node.name != "forward" or any("mask" in line for line in _code(lines)):
            return lines
        shorter = copy.deepcopy(node)
        shorter.args.args = [p for p in node.args.args if p.arg != "mask"]
        shorter.args.defaults = node.args.defaults[: len(node.args.defaults) - 1]
        return self.emitter.function(source, shorter, kind, 4)

    def _constructor(self, source: ModuleSource, node: ast.ClassDef, kind: type[nn.Module]) -> list[str]:
        own = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if own is None:
            return []
        if is_kept(kind, self.emitter.program, self.emitter.constants):
            return ["", *self.emitter.function(source, own, kind, 4)]
        made = rebuilt(kind, self.emitter)
        inherited = inherited_parameters(kind, self.emitter)
        parameters = [*inherited, *made.parameters]
        text = ["self", *(["*"] if len(parameters) > 1 else []), *(p.text for p in parameters)]
        lines = ["", *signature_lines("    def __init__", text, " -> None")]
        call = f"super().__init__({', '.join(f'{p.name}={p.name}' for p in inherited)})"
        return [*lines, *wrapped(call, 8).splitlines(), *made.lines]

    def _plain(self, source: ModuleSource, node: ast.ClassDef, kind: type) -> list[str]:
        """A record: its fields, and the methods that are read."""
        scope = Scope(source, None)
        lines = [f"@{self.emitter.text(decorator, scope)}" for decorator in node.decorator_list]
        symbol = Symbol(source.module.__name__, node.name)
        bases = [self.emitter.text(base, scope) for base in node.bases]
        lines += [*self._header(node, symbol, bases), *self._docstring(source, node, kind)]
        names = (
            {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
        )
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) in names:
                lines += self.emitter.statement(statement, scope, 4)[0]
            elif isinstance(statement, ast.FunctionDef) and (
                statement.name in self.emitter.attributes or statement.name.startswith("__")
            ):
                lines += ["", *self.emitter.function(source, statement, None, 4)]
        return lines


UNREACHED = frozenset(
    {"__getstate__", "parameter_roles", "nonlinearities", "set_progress", "folded", "affine"}
)
"""Of training, searching and deploying; nothing that generated code calls, though a name may be alike."""


def inherited_parameters(kind: type[nn.Module], emitter: Emitter) -> list[Parameter]:
    """What a rebuilt constructor passes on to those of its bases."""
    found: list[Parameter] = []
    for base in kind.__mro__[1:]:
        if base is nn.Module:
            break
        if "__init__" in vars(base) and emitter.program.owns(base.__module__):
            found = [*rebuilt(base, emitter).parameters, *found]
    return found


def all_parameters(kind: type[nn.Module], emitter: Emitter) -> list[Parameter]:
    """Of a class whose constructor is rebuilt, in the order of its signature."""
    for base in kind.__mro__:
        if "__init__" in vars(base):
            return [*inherited_parameters(base, emitter), *rebuilt(base, emitter).parameters]
    return []


def constructor_of(kind: type[nn.Module]) -> type[nn.Module]:
    """The class whose constructor a module of this class runs."""
    found: type[nn.Module] = next(base for base in kind.__mro__ if "__init__" in vars(base))
    return found


def _copy(emitter: Emitter) -> Emitter:
    """For a look ahead that notes nothing."""
    return Emitter(
        emitter.program,
        emitter.constants,
        emitter.names,
        set(emitter.attributes),
        dict(emitter.symbols),
        set(emitter.externals),
        set(emitter.supers),
        fixed=emitter.fixed,
    )


def _code(lines: Sequence[str]) -> list[str]:
    """The statements of a method: what stands behind its signature, its docstring and its comments."""
    node = ast.parse(textwrap.dedent("\n".join(lines))).body[0]
    assert isinstance(node, ast.FunctionDef)
    return [ast.unparse(statement) for statement in node.body if not isinstance(statement, ast.Expr)]


def _without_first_blank(lines: Sequence[str]) -> list[str]:
    return list(lines[1:]) if lines and not lines[0] else list(lines)
