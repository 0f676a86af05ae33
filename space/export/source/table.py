"""The constructor of the whole model: every module with its sizes, layer by layer."""

import inspect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ...architecture import Architecture, LayerConfig
from ...choice import PositionModule
from ...model import Block, Model
from .blocks import block_names, layout_of
from .classes import all_parameters, constructor_of
from .constructors import is_kept, rebuilt, written
from .emission import Emitter
from .recording import arguments
from .symbols import External, Symbol
from .text import wrapped


class Table:
    """Writes modules as calls of their constructors. What stands in several places is made once, first."""

    def __init__(self, model: Model, architecture: Architecture, emitter: Emitter) -> None:
        self.model, self.architecture, self.emitter = model, architecture, emitter
        self.block_names = block_names([layout_of(block) for block in self.blocks])
        self.counts: Counter[int] = Counter()
        for part in self._parts():
            self._count(part)
        self.variables: dict[int, str] = {}
        self.shared_lines: list[str] = []

    @property
    def blocks(self) -> list[Block]:
        return [block for block in self.model.blocks if isinstance(block, Block)]

    @property
    def has_position(self) -> bool:
        """Whether the position choice acts on the tokens."""
        return type(self.model.position) is not PositionModule

    def lines(self) -> list[str]:
        """The body of the constructor, behind `super().__init__()`."""
        own = [f"self.embedding = {self._call(self.model.embedding)}"]
        own += [f"self.position = {self._call(self.model.position)}"] if self.has_position else []
        blocks = self._block_lines()
        behind = [
            f"self.final_norm = {self._call(self.model.final_norm)}",
            f"self.head = {self._call(self.model.head)}",
        ]
        return [*self.shared_lines, *_all_wrapped(own), *blocks, *_all_wrapped(behind)]

    def _block_lines(self) -> list[str]:
        rows: list[tuple[str, str]] = []
        for layer, block in zip(self.architecture.layers, self.blocks, strict=True):
            rows.append((_words(layer), self._block_text(block)))
        lines = ["        self.blocks = nn.ModuleList(", "            ["]
        first = 0
        while first < len(rows):
            last = first
            while last + 1 < len(rows) and rows[last + 1] == rows[first] and "\n" in rows[first][1]:
                last += 1
            lines += _row_lines(rows[first], first, last)
            first = last + 1
        return [*lines, "            ]", "        )"]

    def _block_text(self, block: Block) -> str:
        if self.counts[id(block)] > 1:
            return self._variable(block)
        return self._block_call(block, 16)

    def _block_call(self, block: Block, indent: int) -> str:
        items = [f"{name}={self._call(part)}" for name, part in _block_parts(block)]
        inside = "\n".join(wrapped(item, indent + 4, behind=1) + "," for item in items)
        return f"{self.block_names[layout_of(block)]}(\n{inside}\n{' ' * indent})"

    def _call(self, module: nn.Module) -> str:
        """A module as an expression on one line."""
        if self.counts[id(module)] > 1:
            return self._variable(module)
        return self._made(module)

    def _made(self, module: nn.Module) -> str:
        kind = type(module)
        if isinstance(module, nn.Linear):
            self.emitter.externals.add(External("torch", "nn"))
            bias = "" if module.bias is not None else ", bias=False"
            return f"nn.Linear({module.in_features}, {module.out_features}{bias})"
        if kind.__module__.startswith("torch."):
            self.emitter.externals.add(External("torch", "nn"))
            return self._of_torch(module)
        name = self.emitter.use(Symbol(kind.__module__, kind.__name__))
        return f"{name}({', '.join(self._arguments(module))})"

    def _of_torch(self, module: nn.Module) -> str:
        inside = [self._call(child) for child in module.children()]
        if isinstance(module, nn.ModuleList):
            return f"nn.ModuleList([{', '.join(inside)}])"
        return f"nn.{type(module).__name__}({', '.join(inside)})"

    def _arguments(self, module: nn.Module) -> Iterator[str]:
        for name, value, is_named in self._given(module):
            text = self._value(value)
            yield f"{name}={text}" if is_named else text

    def _value(self, value: Any) -> str:
        return self._call(value) if isinstance(value, nn.Module) else written(value, self.emitter)

    def _given(self, module: nn.Module) -> Iterator[tuple[str, Any, bool]]:
        """(parameter, value, whether it is written by name)."""
        kind = type(module)
        if is_kept(kind, self.emitter.program, self.emitter.constants):
            base = constructor_of(kind)
            if base is not nn.Module:
                yield from _kept_arguments(module, base)
            return
        others: dict[str, dict[int, Any]] = {}
        for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
            if "__init__" in vars(base):
                others |= {name: dict(values) for name, values in rebuilt(base, self.emitter).values.items()}
        parameters = all_parameters(kind, self.emitter)
        for parameter in parameters:
            known = others.get(parameter.name, {})
            value = known[id(module)] if id(module) in known else getattr(module, parameter.name)
            yield parameter.name, value, len(parameters) > 1

    def _variable(self, module: nn.Module) -> str:
        if id(module) not in self.variables:
            text = self._block_call(module, 8) if isinstance(module, Block) else self._made(module)
            base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(module).__name__).lower()
            taken = set(self.variables.values())
            name = next(n for n in (base, *(f"{base}_{i}" for i in range(2, 10_000))) if n not in taken)
            self.variables[id(module)] = name
            self.shared_lines += wrapped(f"{name} = {text}", 8).splitlines()
        return self.variables[id(module)]

    def _parts(self) -> list[nn.Module]:
        position = [self.model.position] if self.has_position else []
        return [self.model.embedding, *position, *self.blocks, self.model.final_norm, self.model.head]

    def _count(self, module: nn.Module) -> None:
        self.counts[id(module)] += 1
        if self.counts[id(module)] > 1:
            return
        if isinstance(module, Block):
            inside: list[Any] = [part for _, part in _block_parts(module)]
        elif type(module).__module__.startswith("torch.") or isinstance(module, nn.Linear):
            inside = list(module.children())
        else:
            inside = [value for _, value, _ in self._given(module)]
        for part in inside:
            if isinstance(part, nn.Module):
                self._count(part)


def _block_parts(block: Block) -> Iterator[tuple[str, nn.Module]]:
    names = ("first_norm", "first_feed_forward", "mixer_norm", "mixer", "feed_forward_norm", "feed_forward")
    for name in names:
        part = getattr(block, name)
        if part is not None:
            yield name, part


def _kept_arguments(module: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[str, Any, bool]]:
    """What the constructor was called with, without what is its default anyway."""
    signature = inspect.signature(kind.__init__)
    is_named = False
    given = arguments(module, kind)
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((name, value, False) for value in given.get(name, ()))
            is_named = True
            continue
        if name not in given or _is_default(given[name], parameter.default):
            is_named = True
            continue
        yield name, given[name], is_named or parameter.kind is inspect.Parameter.KEYWORD_ONLY


def _is_default(value: Any, default: Any) -> bool:
    return not isinstance(value, nn.Module | Tensor) and value == default


def _row_lines(row: tuple[str, str], first: int, last: int) -> list[str]:
    """One layer, or several that are alike."""
    words, text = row
    pad = " " * 16
    if first == last:
        return [f"{pad}# {first + 1}: {words}", *f"{pad}{text},".splitlines()]
    deeper = "\n".join(f"    {line}" for line in text.splitlines())
    inside = f"{pad}*(\n{pad}{deeper}\n{pad}    for _ in range({last - first + 1})\n{pad}),"
    return [f"{pad}# {first + 1} to {last + 1}: {words}", *inside.splitlines()]


def _words(layer: LayerConfig) -> str:
    return f"{layer.mixer.kind}, {layer.feed_forward.kind}, {layer.norm.kind}"


def _all_wrapped(statements: Sequence[str]) -> list[str]:
    return [line for statement in statements for line in wrapped(statement, 8).splitlines()]
