"""Definitions of a program written anew: what the model never reaches is left out, shapes become comments.

What stays as it was keeps its text, line breaks and comments; what changes is put on one line and wrapped.
Every global name and every attribute that is written is noted, so that the caller knows what else is needed.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_origin

from torch import nn

from ...errors import ServiceError
from .folding import UNKNOWN, Constants, Scope
from .recording import arguments
from .symbols import External, ModuleSource, Program, Symbol
from .syntax import (
    SHAPED,
    bound_once,
    defaults_of,
    given_arguments,
    is_constant,
    is_if,
    locals,
    names_of,
    only_bound,
    shape_note,
    shifted,
    signature_lines,
    wrapped_comment,
    written_plainly,
)
from .text import Edit, on_one_line, wrapped


@dataclass
class Emitter:
    """Writes functions and statements; `names` renames global names that would clash."""

    program: Program
    constants: Constants
    names: dict[Symbol, str]
    attributes: set[str] = field(default_factory=set)
    """Read so far, of whatever object."""
    symbols: dict[Symbol, None] = field(default_factory=dict)
    externals: set[External] = field(default_factory=set)
    supers: set[str] = field(default_factory=set)
    """Methods called as `super().method`."""
    rebuilt: dict[type[nn.Module], Any] = field(default_factory=dict)
    """Constructors as found last, with the number of attributes known then; see `constructors.rebuilt`."""
    passed: dict[Symbol, dict[str, Any] | None] = field(default_factory=dict)
    """Function -> parameter -> the one value of all calls; None: not all calls are known."""
    fixed: Mapping[Symbol, Mapping[str, Any]] = field(default_factory=dict)
    """Function -> parameters that are left out, because every call gives them the same constant."""
    callees: set[int] = field(default_factory=set)
    imported_by: dict[External, str] = field(default_factory=dict)
    """The module of ours that uses an import first."""

    def function(
        self, source: ModuleSource, node: ast.FunctionDef, kind: type[nn.Module] | None, indent: int
    ) -> list[str]:
        """Lines of a function or method, without locals that nothing reads any more."""
        dropped: frozenset[str] = frozenset()
        while True:
            lines = self._function(source, node, kind, indent, dropped)
            unread = bound_once(node) & only_bound(lines)
            if not unread - dropped:
                return lines
            dropped |= unread

    def _function(
        self,
        source: ModuleSource,
        node: ast.FunctionDef,
        kind: type[nn.Module] | None,
        indent: int,
        dropped: frozenset[str],
    ) -> list[str]:
        known = dict(self._fixed_of(source, node, kind))
        scope = Scope(source, kind, locals(node), self._typed(node, source), known, bound_once(node), dropped)
        pad = " " * indent
        lines = [f"{pad}@{self.text(decorator, scope)}" for decorator in node.decorator_list]
        lines += self.signature(node, scope, indent)
        body = list(node.body)
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None:
            lines += self._raw(body.pop(0), scope, indent + 4)
        note = shape_note(node)
        if note:
            lines += wrapped_comment(note, indent + 4)
        inside, _ = self.block(body, scope, indent + 4)
        return [*lines, *(inside or ([] if docstring is not None else [f"{pad}    pass"]))]

    def _fixed_of(
        self, source: ModuleSource, node: ast.FunctionDef, kind: type[nn.Module] | None
    ) -> Mapping[str, Any]:
        """Constants in place of parameters: of a function by its calls, of a constructor by its modules."""
        if kind is None:
            is_own = source.definitions.get(node.name) is node
            return self.fixed.get(Symbol(source.module.__name__, node.name), {}) if is_own else {}
        if node.name != "__init__":
            return {}
        bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        given = [arguments(one, kind) for one in self.constants.instances.get(kind, [])]
        return {
            name: default.value
            for name, default in defaults_of(node).items()
            if isinstance(default, ast.Constant)
            and name not in bound
            and all(is_constant(default, one.get(name, default.value)) for one in given)
        }

    def _typed(self, node: ast.FunctionDef, source: ModuleSource) -> dict[str, type[nn.Module]]:
        """Parameters that are modules of one class of ours."""
        found: dict[str, type[nn.Module]] = {}
        for parameter in (*node.args.args, *node.args.kwonlyargs):
            if isinstance(parameter.annotation, ast.Name):
                symbol = self.program.find(source.module.__name__, parameter.annotation.id)
                value = self.program.value(symbol) if isinstance(symbol, Symbol) else None
                if (
                    isinstance(value, type)
                    and issubclass(value, nn.Module)
                    and value in self.constants.instances
                ):
                    found[parameter.arg] = value
        return found

    def signature(self, node: ast.FunctionDef, scope: Scope, indent: int) -> list[str]:
        """`def name(...) -> ...:` on one line, with all parameters on one line, or one per line."""
        pad, parameters = " " * indent, self.parameters(node, scope)
        returns = f" -> {self.annotation(node.returns, scope)}" if node.returns else ""
        return signature_lines(f"{pad}def {node.name}", parameters, returns)

    def parameters(self, node: ast.FunctionDef, scope: Scope) -> list[str]:
        a, fixed = node.args, self._fixed_of(scope.source, node, scope.kind)
        plain = [*a.posonlyargs, *a.args]
        defaults = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
        pairs = [(p, d) for p, d in zip(plain, defaults, strict=True) if p.arg not in fixed]
        found = [self._parameter(p, d, scope) for p, d in pairs]
        named = [(p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if p.arg not in fixed]
        if a.vararg:
            found.append("*" + self._parameter(a.vararg, None, scope))
        elif named:
            found.append("*")
        found += [self._parameter(p, d, scope) for p, d in named]
        return [*found, *(["**" + self._parameter(a.kwarg, None, scope)] if a.kwarg else [])]

    def _parameter(self, node: ast.arg, default: ast.expr | None, scope: Scope) -> str:
        if node.annotation is None:
            return node.arg if default is None else f"{node.arg}={self.text(default, scope)}"
        text = f"{node.arg}: {self.annotation(node.annotation, scope)}"
        return text if default is None else f"{text} = {self.text(default, scope)}"

    def block(self, statements: Sequence[ast.stmt], scope: Scope, indent: int) -> tuple[list[str], bool]:
        """Lines of statements, and whether they always return or raise; nothing behind that is written."""
        lines: list[str] = []
        for node in statements:
            written, ends = self.statement(node, scope, indent)
            lines += written
            if ends:
                return lines, True
        return lines, False

    def statement(self, node: ast.stmt, scope: Scope, indent: int) -> tuple[list[str], bool]:
        above = [" " * indent + comment for comment in scope.source.text.comments_above(node)]
        match node:
            case ast.If():
                return self._if(node, scope, indent, above)
            case ast.For() | ast.While() | ast.With():
                inside, _ = self.block(node.body, scope, indent + 4)
                header = wrapped(self._header(node, scope), indent)
                return [*above, header, *(inside or [" " * (indent + 4) + "pass"])], False
            case ast.FunctionDef():
                return [*above, *self.function(scope.source, node, scope.kind, indent)], False
            case ast.Assign(targets=[target], value=value) if self._is_unread(target, value):
                return [], False
            case ast.Assign(targets=[ast.Name(id=name)]) if name in scope.dropped:
                return [], False
            case ast.Assign(targets=[ast.Tuple(elts=names)]) if scope.dropped & names_of(names):
                return [*above, *self._unpacked(node, scope, indent)], False
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if self._is_settled(name, value, scope):
                scope.known[name] = self.constants.of(value, scope)
                return [], False
            case ast.Expr(value=value) if self._is_empty_call(value, scope):
                return [], False
            case _:
                ends = isinstance(node, ast.Return | ast.Raise)
                return [*above, *self._raw(node, scope, indent)], ends

    def _if(self, node: ast.If, scope: Scope, indent: int, above: list[str]) -> tuple[list[str], bool]:
        value = self.constants.of(node.test, scope)
        if value is not UNKNOWN:
            return self.block(node.body if value else node.orelse, scope, indent)
        pad = " " * indent
        then, then_ends = self.block(node.body, scope, indent + 4)
        header = wrapped(f"if {on_one_line(self.text(node.test, scope))}:", indent)
        other, other_ends = self.block(node.orelse, scope, indent + 4)
        lines = [*above, header, *(then or [f"{pad}    pass"])]
        if other and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) and is_if(other):
            flat, _ = self.block(node.orelse, scope, indent)
            lines += [f"{pad}el{flat[0].strip()}", *flat[1:]]
        elif other:
            lines += [f"{pad}else:", *other]
        return lines, bool(other) and then_ends and other_ends

    def _unpacked(self, node: ast.Assign, scope: Scope, indent: int) -> list[str]:
        """An assignment to several names without those that nothing reads."""
        target, value = node.targets[0], node.value
        assert isinstance(target, ast.Tuple)
        is_read = [not (isinstance(n, ast.Name) and n.id in scope.dropped) for n in target.elts]
        if not any(is_read):
            return []
        names = [
            self.text(name, scope) if read else "_" for name, read in zip(target.elts, is_read, strict=True)
        ]
        text = on_one_line(self.text(value, scope))
        if isinstance(value, ast.Tuple):
            names = [name for name, read in zip(names, is_read, strict=True) if read]
            parts = [self.text(v, scope) for v, read in zip(value.elts, is_read, strict=True) if read]
            text = ", ".join(on_one_line(part) for part in parts)
        return wrapped(f"{', '.join(names)} = {text}", indent).splitlines()

    def _header(self, node: ast.For | ast.While | ast.With, scope: Scope) -> str:
        if isinstance(node, ast.While):
            return f"while {on_one_line(self.text(node.test, scope))}:"
        if isinstance(node, ast.For):
            target, iterable = self.text(node.target, scope), on_one_line(self.text(node.iter, scope))
            return f"for {target} in {iterable}:"
        items = [
            self.text(item.context_expr, scope)
            + (f" as {self.text(item.optional_vars, scope)}" if item.optional_vars else "")
            for item in node.items
        ]
        return f"with {', '.join(items)}:"

    def _raw(self, node: ast.stmt, scope: Scope, indent: int) -> list[str]:
        """A simple statement: as it stands, or on one line and wrapped where something in it changed."""
        edits = list(self._edits(node, scope))
        text = scope.source.text.of(node, edits)
        behind = scope.source.text.comment_behind(node)
        joined = on_one_line(text) if edits else text
        if edits and "\n" not in joined:
            lines = wrapped(joined, indent).splitlines()
        else:
            first, *rest = text.splitlines()
            shift = indent - node.col_offset
            lines = [" " * indent + first, *(shifted(line, shift) for line in rest)]
        if behind and len(lines[-1]) + len(behind) + 2 <= 110:
            lines[-1] += f"  {behind}"
        return lines

    def text(self, node: ast.expr, scope: Scope) -> str:
        """An expression as it is written."""
        replacement = self._replaced(node, scope)
        if replacement is not None:
            return replacement
        edits = [edit for child in ast.iter_child_nodes(node) for edit in self._edits(child, scope)]
        self._note(node, scope)
        return scope.source.text.of(node, edits)

    def _edits(self, node: ast.AST, scope: Scope) -> Iterator[Edit]:
        """What changes inside a node; outermost changes only."""
        if isinstance(node, ast.expr):
            replacement = self._replaced(node, scope)
            if replacement is not None:
                span = scope.source.text.span(node)
                if isinstance(node, ast.IfExp | ast.BoolOp) and re.fullmatch(r"[\w.]+", replacement):
                    span = scope.source.text.in_brackets(node) or span
                yield Edit(*span, replacement)
                return
            self._note(node, scope)
        if isinstance(node, ast.AnnAssign):
            yield Edit(*scope.source.text.span(node.annotation), self.annotation(node.annotation, scope))
            children: list[ast.AST] = [node.target, *([node.value] if node.value else [])]
        else:
            children = list(ast.iter_child_nodes(node))
        for child in children:
            yield from self._edits(child, scope)

    def _replaced(self, node: ast.expr, scope: Scope) -> str | None:
        """Other words for an expression; None: it stays, as far as what is inside it does."""
        match node:
            case ast.IfExp(test=test, body=body, orelse=orelse):
                value = self.constants.of(test, scope)
                return None if value is UNKNOWN else self.text(body if value else orelse, scope)
            case ast.BoolOp():
                return self._shorter(node, scope)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name), args=[one], keywords=[]):
                if scope.kind is not None and self.constants.is_identity(scope.kind, name):
                    return self.text(one, scope)
            case ast.Call(func=ast.Name(id=name)) if name not in scope.local:
                return self._shorter_call(node, scope)
            case ast.Subscript(ctx=ast.Load()):
                chosen = self.constants.function(node, scope)
                return None if chosen is None else self.use(chosen)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Load()):
                if scope.kind is not None and self.constants.attribute(scope.kind, name) is None:
                    return "None"
            case ast.Name(id=name, ctx=ast.Load()) if name in scope.known:
                return written_plainly(scope.known[name])
            case ast.Name(id=name) if name not in scope.local:
                found = self.program.find(scope.module, name)
                if isinstance(found, Symbol) and id(node) not in self.callees:
                    self.passed[found] = None  # handed on as a value: whatever it is called with is unknown
                return self._renamed(name, scope)
            case _:
                pass
        return None

    def _shorter_call(self, node: ast.Call, scope: Scope) -> str | None:
        """A call of a function of ours without what every call gives it; None: it stays as it is."""
        assert isinstance(node.func, ast.Name)
        symbol = self.program.find(scope.module, node.func.id)
        if not isinstance(symbol, Symbol):
            return None
        self.callees.add(id(node.func))
        definition = self.program.definition(symbol)
        if not isinstance(definition, ast.FunctionDef):
            return None
        given = given_arguments(definition, node)
        if given is None:
            self.passed[symbol] = None
            return None
        self._merge(symbol, definition, given, scope)
        fixed = self.fixed.get(symbol, {})
        if not fixed.keys() & given.keys():
            return None
        names = [parameter.arg for parameter in definition.args.args]
        texts, is_named = [], False
        for name, value in given.items():
            if name in fixed:
                is_named = is_named or name in names
                continue
            by_name = is_named or any(keyword.arg == name for keyword in node.keywords)
            texts.append(f"{name}={self.text(value, scope)}" if by_name else self.text(value, scope))
        return f"{self.use(symbol)}({', '.join(on_one_line(text) for text in texts)})"

    def _merge(
        self, symbol: Symbol, definition: ast.FunctionDef, given: Mapping[str, ast.expr], scope: Scope
    ) -> None:
        """Notes the constants of one call beside those of the others."""
        known = self.passed.setdefault(symbol, {})
        if known is None:
            return
        for name, default in defaults_of(definition).items():
            value = self.constants.of(given.get(name, default), scope)
            same = name not in known or (type(known[name]) is type(value) and known[name] == value)
            known[name] = value if same else UNKNOWN

    def always_passed(self) -> dict[Symbol, dict[str, Any]]:
        """Parameters with a default that get the same None, truth value or default in every call."""
        found: dict[Symbol, dict[str, Any]] = {}
        for symbol, values in self.passed.items():
            definition = self.program.definition(symbol)
            if values is None or not isinstance(definition, ast.FunctionDef):
                continue
            bound = {
                n.id for n in ast.walk(definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            defaults = defaults_of(definition)
            kept = {
                name: value
                for name, value in values.items()
                if name not in bound
                and value is not UNKNOWN
                and (value is None or isinstance(value, bool) or is_constant(defaults[name], value))
            }
            if kept:
                found[symbol] = kept
        return found

    def _shorter(self, node: ast.BoolOp, scope: Scope) -> str | None:
        """Without the operands that decide nothing."""
        whole = self.constants.of(node, scope)
        if isinstance(whole, bool):
            return str(whole)
        decides = isinstance(node.op, ast.Or)
        kept = [v for v in node.values if self.constants.of(v, scope) is not (not decides)]
        if len(kept) == len(node.values):
            return None
        return (" or " if decides else " and ").join(self.text(value, scope) for value in kept)

    def _renamed(self, name: str, scope: Scope) -> str | None:
        found = self.program.find(scope.module, name)
        if isinstance(found, External):
            self.externals.add(found)
            self.imported_by.setdefault(found, scope.module)
            return None
        if found is None:
            return None
        used = self.use(found)
        return None if used == name else used

    def use(self, symbol: Symbol) -> str:
        """The name that a symbol of ours has in what is written; it is noted as needed."""
        value = self.program.value(symbol)
        if isinstance(value, type) and issubclass(value, ServiceError):
            return "ValueError"
        self.symbols[symbol] = None
        return self.names.get(symbol, symbol.name)

    def _note(self, node: ast.expr, scope: Scope) -> None:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            self.attributes.add(node.attr)
            if isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()":
                self.supers.add(node.attr)

    def annotation(self, node: ast.expr, scope: Scope) -> str:
        """A type as generated code says it: tensors without their axes, choices as words."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        return ast.unparse(_Annotation(self, scope).visit(ast.parse(ast.unparse(node), mode="eval").body))

    def type_name(self, name: str, scope: Scope) -> str:
        """What a name in an annotation becomes."""
        found = self.program.find(scope.module, name)
        if isinstance(found, External):
            self.externals.add(found)
            self.imported_by.setdefault(found, scope.module)
            return name
        if found is None:
            return name
        value: Any = self.program.value(found)
        if get_origin(value) is Literal:
            return "str"
        if isinstance(value, type) and issubclass(value, nn.Module) and not self._is_exact(value):
            self.externals.add(External("torch", "nn"))
            return "nn.Module"
        return self.use(found)

    def _is_exact(self, kind: type[nn.Module]) -> bool:
        """Whether some module is of exactly this class; a base may have nothing left."""
        return any(type(one) is kind for one in self.constants.instances.get(kind, []))

    def _is_unread(self, target: ast.expr, value: ast.expr) -> bool:
        """`self.name = constant` of a name that nothing reads."""
        is_own = isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
        return is_own and isinstance(value, ast.Constant) and ast.unparse(target)[5:] not in self.attributes

    def _is_settled(self, name: str, value: ast.expr, scope: Scope) -> bool:
        """A local name bound once, to None, True or False."""
        found = self.constants.of(value, scope)
        return (found is None or isinstance(found, bool)) and name in scope.once

    def _is_empty_call(self, node: ast.expr, scope: Scope) -> bool:
        """A call of a function of ours of which nothing is left, for example a check for the exporter."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            return False
        found = self.program.find(scope.module, node.func.id) if node.func.id not in scope.local else None
        if not isinstance(found, Symbol):
            return False
        definition = self.program.definition(found)
        if not isinstance(definition, ast.FunctionDef):
            return False
        probe = Emitter(self.program, self.constants, self.names, fixed=self.fixed)
        body = [
            s for s in definition.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        ]
        scope = Scope(self.program.source(found.module), None, locals(definition))
        return not probe.block(body, scope, 0)[0]


class _Annotation(ast.NodeTransformer):
    """Names of an annotation as `Emitter.type_name` gives them; jaxtyping's types as tensors."""

    def __init__(self, emitter: Emitter, scope: Scope) -> None:
        self.emitter, self.scope = emitter, scope

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id in SHAPED:
            self.emitter.externals.add(External("torch", "Tensor"))
            return ast.Name("Tensor")
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        parsed = ast.parse(self.emitter.type_name(node.id, self.scope), mode="eval").body
        return parsed

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):
            return self.visit(ast.parse(node.value, mode="eval").body)  # type: ignore[no-any-return]
        return node
