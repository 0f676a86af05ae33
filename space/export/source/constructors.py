"""The constructor of a class, found from the modules of that class that a model has."""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UnsupportedError
from .emission import Emitter
from .folding import UNKNOWN, Constants, Scope, is_plain
from .recording import arguments
from .symbols import External, Program, Symbol
from .text import wrapped

INITIALISERS = ("space.projection", ("start", "INIT_STD"))
"""What a kept constructor may use of that module; its other names read the model's surroundings."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a rebuilt constructor."""

    name: str
    annotation: str

    @property
    def text(self) -> str:
        return f"{self.name}: {self.annotation}"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Parameters and the body behind `super().__init__`. `of`: parameter -> its value for one module."""

    parameters: tuple[Parameter, ...]
    lines: tuple[str, ...]
    values: Mapping[str, Mapping[int, Any]]
    """Parameter name -> id of a module -> value, where the value is no attribute of the module."""


def is_kept(kind: type[nn.Module], program: Program, constants: Constants) -> bool:
    """Whether the constructor can stay: it and those of its bases take only what can be written down."""
    if kind not in constants.kept:
        constants.kept[kind] = _can_stay(kind, program, constants)
    return constants.kept[kind]


def _can_stay(kind: type[nn.Module], program: Program, constants: Constants) -> bool:
    for base in kind.__mro__:
        if base is nn.Module or not program.owns(base.__module__):
            continue
        if "__init__" not in vars(base):
            continue
        given = [
            value for one in constants.instances.get(kind, []) for value in arguments(one, base).values()
        ]
        if not all(_can_be_written(value) for value in given):
            return False
        if _reads_surroundings(base, program, constants):
            return False
    return True


def rebuilt(kind: type[nn.Module], emitter: Emitter) -> Rebuilt:
    """The constructor of `kind` alone, without those of its bases."""
    known = emitter.rebuilt.get(kind)
    if known is None or known[0] != len(emitter.attributes):
        made = _Rebuilding(kind, emitter).result()
        known = emitter.rebuilt[kind] = len(emitter.attributes), made
    return known[1]


class _Rebuilding:
    """Goes through the old constructor and asks the modules what it made."""

    def __init__(self, kind: type[nn.Module], emitter: Emitter) -> None:
        self.kind, self.emitter = kind, emitter
        self.modules = emitter.constants.instances.get(kind, [])
        symbol = Symbol(kind.__module__, kind.__name__)
        definition = emitter.program.definition(symbol)
        assert isinstance(definition, ast.ClassDef)
        self.source = emitter.program.source(kind.__module__)
        self.node = next(
            n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"
        )
        self.settings: list[Parameter] = []
        self.inner: list[Parameter] = []
        self.plain_lines: list[str] = []
        self.weight_lines: list[str] = []
        self.buffer_lines: list[str] = []
        self.values: dict[str, dict[int, Any]] = {}

    def result(self) -> Rebuilt:
        for name in dict.fromkeys(_assigned(self.node)):
            self._attribute(name)
        for name, value in _constant_buffers(self.node):
            self._constant_buffer(name, value)
        parameters = (*self.settings, *self.inner)
        lines = (*self.plain_lines, *self.weight_lines, *self.buffer_lines)
        return Rebuilt(parameters, lines, self.values)

    def _attribute(self, name: str) -> None:
        values = [getattr(one, name, None) for one in self.modules]
        present = [value for value in values if value is not None]
        if not present or (name in _buffer_names(self.node) and self._is_constant_buffer(name)):
            return
        optional = " | None" if len(present) < len(values) else ""
        if self.emitter.constants.is_identity(self.kind, name):
            return
        if isinstance(present[0], nn.Module):
            if name in self.emitter.attributes or any(_has_state(value) for value in present):
                self.emitter.externals.add(External("torch", "nn"))
                self.inner.append(Parameter(name, f"nn.Module{optional}"))
                self.plain_lines.append(f"        self.{name} = {name}")
        elif isinstance(present[0], Tensor):
            self._weight(name, present, is_optional=bool(optional))
        elif name in self.emitter.attributes and all(is_plain(value) for value in present):
            self.settings.append(Parameter(name, self._annotation(present) + optional))
            self.plain_lines.append(f"        self.{name} = {name}")
        elif name in self.emitter.attributes:
            raise UnsupportedError(
                f"{self.kind.__name__}.{name} is a {type(present[0]).__name__}, which generated code cannot "
                "write down; keep numbers, words, tuples, tensors or modules there"
            )

    def _weight(self, name: str, tensors: Sequence[Tensor], *, is_optional: bool) -> None:
        """A trained tensor or a stored one: its shape and type; the numbers come with the weights."""
        shapes = {tuple(tensor.shape) for tensor in tensors}
        self.emitter.externals |= {External("torch", None), External("torch", "nn")}
        if len(shapes) == 1 and not is_optional:
            size = ", ".join(str(n) for n in tensors[0].shape) or "()"
        else:
            size = name
            self.settings.append(Parameter(name, f"tuple[int, ...]{' | None' if is_optional else ''}"))
            shape_of = {id(one): _shape(getattr(one, name)) for one in self.modules}
            self.values[name] = dict(shape_of)
        dtype = tensors[0].dtype
        kind = "" if dtype == torch.float32 else f", dtype={dtype}"
        if isinstance(tensors[0], nn.Parameter):
            made = f"nn.Parameter(torch.zeros({size}{kind}))"
            if is_optional:
                made += f" if {name} else None"
            self.weight_lines += wrapped(f"self.{name} = {made}", 8).splitlines()
        else:
            made = f"torch.zeros({size}{kind})" + (f" if {name} else None" if is_optional else "")
            self.weight_lines += wrapped(f'self.register_buffer("{name}", {made})', 8).splitlines()

    def _annotation(self, values: Sequence[Any]) -> str:
        names = dict.fromkeys(self._one_annotation(value) for value in values)
        return " | ".join(names)

    def _one_annotation(self, value: Any) -> str:
        if isinstance(value, tuple | list):
            inner = dict.fromkeys(self._one_annotation(item) for item in value)
            more = ", ..." if isinstance(value, tuple) else ""
            return f"{type(value).__name__}[{' | '.join(inner) or 'int'}{more}]"
        if dataclasses.is_dataclass(value):
            return self.emitter.use(Symbol(type(value).__module__, type(value).__name__))
        return type(value).__name__

    def _is_constant_buffer(self, name: str) -> bool:
        return any(name in one._non_persistent_buffers_set for one in self.modules)

    def _constant_buffer(self, name: str, value: ast.expr) -> None:
        present = [getattr(one, name, None) is not None for one in self.modules]
        if name not in self.emitter.attributes or not any(present):
            return
        scope = Scope(self.source, self.kind)
        text = _Expression(self, scope, [o for o, p in zip(self.modules, present, strict=True) if p]).text(
            value
        )
        if not all(present):
            flag = f"keeps_{name}"
            self.settings.append(Parameter(flag, "bool"))
            self.values[flag] = {id(one): there for one, there in zip(self.modules, present, strict=True)}
            text = f"{text} if {flag} else None"
        line = f'self.register_buffer("{name}", {text}, persistent=False)'
        self.buffer_lines += wrapped(line, 8).splitlines()


class _Expression:
    """An expression of the old constructor in the words of the new one: settings, `self`, and constants."""

    def __init__(self, rebuilding: _Rebuilding, scope: Scope, modules: Sequence[nn.Module]) -> None:
        self.rebuilding, self.scope, self.modules = rebuilding, scope, modules
        self.emitter = rebuilding.emitter
        self.locals = _local_values(rebuilding.node)
        self.given = [p.arg for p in (*rebuilding.node.args.args, *rebuilding.node.args.kwonlyargs)]

    def text(self, node: ast.expr) -> str:
        if _reads(node, {*self.locals, *(name for name in self.given if name != "self")}):
            known = self._known(node)
            if known is not None:
                return known
        match node:
            case ast.Name(id=name) if name in self.locals:
                return self.text(self.locals[name])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                chosen = [_evaluated(test, self, one) for one in self.modules]
                if all(chosen) or not any(chosen):
                    return self.text(body if chosen[0] else orelse)
                return f"{self.text(body)} if {self.text(test)} else {self.text(orelse)}"
            case ast.Call(func=function, args=args, keywords=keywords):
                given = [self.text(arg) for arg in args]
                given += [f"{keyword.arg}={self.text(keyword.value)}" for keyword in keywords]
                return f"{self._callee(function)}({', '.join(given)})"
            case ast.BinOp(left=left, right=right, op=op):
                sign = ast.unparse(ast.BinOp(ast.Name("a"), op, ast.Name("b")))[2:-2]
                return f"{self._operand(left)} {sign} {self._operand(right)}"
            case ast.Subscript(value=value, slice=place):
                return f"{self.text(value)}{ast.unparse(ast.Subscript(ast.Name('a'), place))[1:]}"
            case ast.Attribute(value=value, attr=name):
                self.emitter.attributes.add(name)
                return f"{self.text(value)}.{name}"
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{self._operand(operand)}"
            case _:
                return self.emitter.text(node, self.scope)

    def _callee(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return self.text(node)
        return self.emitter.text(node, self.scope)

    def _operand(self, node: ast.expr) -> str:
        text = self.text(node)
        return f"({text})" if isinstance(node, ast.BinOp | ast.IfExp) and " " in text else text

    def _known(self, node: ast.expr) -> str | None:
        """A plain value of all modules: written down where it is one, else a setting of its own."""
        values = [_evaluated(node, self, one) for one in self.modules]
        if not all(is_plain(value) for value in values):
            return None
        if all(value == values[0] for value in values):
            return written(values[0], self.emitter)
        name = ast.unparse(node).split(".")[-1].split("(")[0]
        name = name if name.isidentifier() else "size"
        known = self.rebuilding.values.setdefault(name, {})
        known.update({id(one): value for one, value in zip(self.modules, values, strict=True)})
        if name not in {p.name for p in self.rebuilding.settings}:
            self.rebuilding.settings.append(Parameter(name, type(values[0]).__name__))
        return name


def _evaluated(node: ast.expr, expression: _Expression, module: nn.Module) -> Any:
    """The value that an expression of the constructor had when this module was made; UNKNOWN: a tensor."""
    names = vars(expression.rebuilding.source.module)
    local: dict[str, Any] = {**arguments(module, expression.rebuilding.kind), "self": module}
    for name, default in _defaults(expression.rebuilding.node).items():
        local.setdefault(name, default)
    for name, value in expression.locals.items():
        if _reads(node, {name}) or any(_reads(other, {name}) for other in expression.locals.values()):
            found = _run(value, names, local)
            local[name] = found
    return _run(node, names, local)


def _run(node: ast.expr, names: Mapping[str, Any], local: Mapping[str, Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        try:
            value = eval(compile(ast.Expression(node), "<constructor>", "eval"), {**names, **local})
        except (AttributeError, TypeError, ValueError, LookupError, NameError, RuntimeError):
            return UNKNOWN
    return value if not isinstance(value, Tensor | nn.Module) else UNKNOWN


def written(value: Any, emitter: Emitter) -> str:
    """A plain value as Python source."""
    if isinstance(value, tuple):
        inside = ", ".join(written(item, emitter) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, list):
        return f"[{', '.join(written(item, emitter) for item in value)}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = emitter.use(Symbol(type(value).__module__, type(value).__name__))
        fields = (f"{f.name}={written(getattr(value, f.name), emitter)}" for f in dataclasses.fields(value))
        return f"{name}({', '.join(fields)})"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Tensor):
        emitter.externals.add(External("torch", None))
        return f"torch.tensor({value.tolist()!r}, dtype={value.dtype})"
    return repr(value)


def _can_be_written(value: Any) -> bool:
    return (
        is_plain(value) or isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.numel() <= 64)
    )


def _reads_surroundings(kind: type, program: Program, constants: Constants) -> bool:
    """Whether a constructor makes linear maps by itself, or modules whose constructors cannot stay."""
    definition = program.definition(Symbol(kind.__module__, kind.__name__))
    init = next(n for n in ast.walk(definition) if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    home, harmless = INITIALISERS
    for inner in (inner for statement in init.body for inner in ast.walk(statement)):
        found = program.find(kind.__module__, inner.id) if isinstance(inner, ast.Name) else None
        if not isinstance(found, Symbol):
            continue
        if found.module == home and found.name not in harmless:
            return True
        value: Any = program.value(found)
        is_module = isinstance(value, type) and issubclass(value, nn.Module)
        if is_module and (issubclass(value, nn.Linear) or not is_kept(value, program, constants)):
            return True
    return False


@lru_cache(maxsize=512)
def _assigned(node: ast.FunctionDef) -> tuple[str, ...]:
    """Names of the attributes that a constructor sets, in order."""
    found: list[tuple[int, int, str]] = []
    for inner in ast.walk(node):
        match inner:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.append((inner.lineno, inner.col_offset, name))
            case ast.Call():
                registered = _registered(inner)
                found += [(inner.lineno, inner.col_offset, registered[0])] if registered else []
    return tuple(name for _, _, name in sorted(found))


@lru_cache(maxsize=512)
def _constant_buffers(node: ast.FunctionDef) -> tuple[tuple[str, ast.expr], ...]:
    found = (_registered(inner) for inner in ast.walk(node))
    return tuple((name, call.args[1]) for name, call in filter(None, found) if call.keywords)


def _buffer_names(node: ast.FunctionDef) -> set[str]:
    return {name for name, _ in _constant_buffers(node)}


def _registered(node: ast.AST) -> tuple[str, ast.Call] | None:
    """Name and call of a registration of a buffer."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="self"), attr="register_buffer"),
            args=[ast.Constant(value=str() as name), _],
        ):
            return name, node
    return None


@lru_cache(maxsize=512)
def _local_values(node: ast.FunctionDef) -> dict[str, ast.expr]:
    """Local name -> the expression it was bound to, tuples taken apart."""
    found: dict[str, ast.expr] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign) and len(inner.targets) == 1:
            target, value = inner.targets[0], inner.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            found |= {t.id: v for t, v in pairs if isinstance(t, ast.Name)}
    return found


def _defaults(node: ast.FunctionDef) -> dict[str, Any]:
    """Parameters left out in a call."""
    args, found = node.args, {}
    pairs = [*zip(args.args[::-1], args.defaults[::-1], strict=False)]
    pairs += [(p, d) for p, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is not None]
    for parameter, default in pairs:
        if isinstance(default, ast.Constant):
            found[parameter.arg] = default.value
    return found


def _reads(node: ast.expr, names: set[str]) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id in names for inner in ast.walk(node))


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _has_state(module: Any) -> bool:
    return isinstance(module, nn.Module) and bool(module.state_dict())
