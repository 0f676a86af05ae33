"""What can be read off the syntax of a function without knowing the program it stands in."""

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

SHAPED = frozenset({"Bool", "Float", "Float32", "BFloat16", "Int", "Int8", "Int32", "Int64", "Num", "UInt8"})
"""jaxtyping's types: `Float[Tensor, "batch tokens"]`."""


def defaults_of(node: ast.FunctionDef) -> dict[str, ast.expr]:
    """Parameter -> its default, of those that have one."""
    args = node.args
    late = args.args[len(args.args) - len(args.defaults) :]
    found = {parameter.arg: default for parameter, default in zip(late, args.defaults, strict=True)}
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return found | {parameter.arg: default for parameter, default in pairs if default is not None}


def given_arguments(node: ast.FunctionDef, call: ast.Call) -> dict[str, ast.expr] | None:
    """Parameter -> what a call gives it, in the order of the call; None where that is not plain to see."""
    names = [parameter.arg for parameter in node.args.args]
    if node.args.vararg or node.args.kwarg or len(call.args) > len(names):
        return None
    if any(isinstance(one, ast.Starred) for one in call.args) or any(k.arg is None for k in call.keywords):
        return None
    found = dict(zip(names, call.args, strict=False))
    return found | {str(keyword.arg): keyword.value for keyword in call.keywords}


def is_constant(node: ast.expr, value: Any) -> bool:
    """Whether an expression says this plain value."""
    return isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


def signature_lines(head: str, parameters: Sequence[str], returns: str) -> list[str]:
    """`head` is indented and lacks its parameters."""
    pad = head[: len(head) - len(head.lstrip())]
    line = f"{head}({', '.join(parameters)}){returns}:"
    if len(line) <= 110:
        return [line]
    inside = f"{pad}    {', '.join(parameters)}"
    if len(inside) <= 110:
        return [f"{head}(", inside, f"{pad}){returns}:"]
    return [f"{head}(", *(f"{pad}    {one}," for one in parameters), f"{pad}){returns}:"]


@lru_cache(maxsize=4096)
def shape_note(node: ast.FunctionDef) -> str:
    """The axes of parameters and result, as the annotations say them; nothing where they say none."""
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    given = [
        f"{p.arg} {', '.join(axes)}" for p in named if p.annotation and (axes := list(axes_of(p.annotation)))
    ]
    result = ", ".join(axes_of(node.returns)) if node.returns else ""
    return " -> ".join(part for part in (", ".join(given), result) if part) if given or result else ""


def wrapped_comment(text: str, indent: int) -> list[str]:
    """A comment in as many lines as it takes."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and indent + 3 + len(line) + len(word) > 110:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [f"{' ' * indent}# {one}" for one in [*lines, line]]


def axes_of(node: ast.expr) -> Iterator[str]:
    for inner in ast.walk(node):
        if (
            isinstance(inner, ast.Subscript)
            and isinstance(inner.value, ast.Name)
            and inner.value.id in SHAPED
            and isinstance(inner.slice, ast.Tuple)
            and isinstance(inner.slice.elts[1], ast.Constant)
        ):
            yield f"[{', '.join(str(inner.slice.elts[1].value).split())}]"


@lru_cache(maxsize=4096)
def locals(node: ast.FunctionDef) -> frozenset[str]:
    """Parameters and names that a function binds anywhere."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.arg):
            found.add(inner.arg)
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.add(inner.id)
        elif isinstance(inner, ast.FunctionDef) and inner is not node:
            found.add(inner.name)
    return frozenset(found)


def only_bound(lines: Sequence[str]) -> frozenset[str]:
    """Names that written statements bind and never read."""
    tree = ast.parse(textwrap.dedent("\n".join(lines)))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return frozenset(node.id for node in names if node.id not in read)


@lru_cache(maxsize=4096)
def bound_once(node: ast.FunctionDef) -> frozenset[str]:
    """Names that a function binds at one place, and that are no parameters."""
    bound: Counter[str] = Counter()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            bound[inner.id] += 1
        elif isinstance(inner, ast.arg):
            bound[inner.arg] += 2
    return frozenset(name for name, count in bound.items() if count == 1)


def written_plainly(value: Any) -> str:
    """None, a truth value, a number or a word."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def names_of(nodes: Sequence[ast.expr]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def shifted(line: str, shift: int) -> str:
    if not line.strip():
        return ""
    return " " * shift + line if shift >= 0 else line[min(-shift, len(line) - len(line.lstrip())) :]


def is_if(lines: Sequence[str]) -> bool:
    return lines[0].lstrip().startswith("if ")


def overridden(kind: type, name: str, by: Sequence[type]) -> bool:
    """Whether none of these classes runs the method of `kind`."""
    own = inspect.getattr_static(kind, name)
    return bool(by) and all(inspect.getattr_static(sub, name) is not own for sub in by)
