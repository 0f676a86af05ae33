"""Built model -> one Python file that needs torch and safetensors and nothing of this project.

The file holds what this architecture runs: the classes and functions that its modules reach, collected from
the sources that trained it, without what they have for other architectures, for training and for searching;
then one block class per layout, and a model whose constructor is the table of layers.
"""

import ast
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from ...architecture import Architecture
from ...embedding import ClassifierHead
from ...errors import UnsupportedError
from ...model import Model
from .blocks import ModelWords, block_lines, block_names, layout_of, loader_lines, model_lines
from .classes import ClassWriter
from .emission import Emitter
from .folding import Constants, Scope
from .symbols import ALLOWED, External, Program, Symbol
from .table import Table

RESERVED = frozenset(
    {"Model", "Block", "load", "load_model", "Path", "Tensor", "nn", "torch", "functional", "State"}
)
"""Names that the file has for itself."""
WIDEST_COMMENT = 108
ROUNDS = 3
"""Leaving out parameters makes others constant."""
STATE = Symbol("space.choice", "State")
_PARSING = threading.Lock()
"""Python 3.11 counts the depth of syntax trees per interpreter: two threads that build some fail."""


def packages_of(architecture: Architecture) -> frozenset[str]:
    """The import packages whose sources a model of this architecture is made of."""
    choices = [
        choice for layer in architecture.layers for choice in (layer.mixer, layer.feed_forward, layer.norm)
    ]
    kinds = [type(choice) for choice in (*choices, architecture.position, architecture.final_norm)]
    return frozenset({"space", *(kind.__module__.split(".")[0] for kind in kinds)})


def generate(model: Model, architecture: Architecture, *, weights: str, title: str) -> str:
    """The file's text. `model` was built inside `recorded` and is in evaluation mode.

    Raises:
        UnsupportedError: a module of the model cannot be written as code of its own; the message names it.
    """
    with _PARSING:
        return _Generation(model, architecture).text(weights, title)


class _Generation:
    def __init__(self, model: Model, architecture: Architecture) -> None:
        self.model, self.architecture = model, architecture
        homes = {type(module).__module__.split(".")[0] for module in model.modules()}
        self.program = Program(packages_of(architecture) | (homes - {"torch"}))
        self.constants = Constants(self.program, model)
        self.decodes = architecture.is_causal and all(layer.mixer.decodable for layer in architecture.layers)
        fixed: dict[Symbol, dict[str, Any]] = {}
        self.emitter = self._settled({}, fixed)
        for _ in range(ROUNDS):
            found = self.emitter.always_passed()
            if found == fixed:
                break
            fixed = found
            self.emitter = self._settled({}, fixed)
        names = _renamed(self.emitter.symbols)
        if names:
            self.emitter = self._settled(names, fixed)

    def text(self, weights: str, title: str) -> str:
        final = self._fresh()
        table = Table(self.model, self.architecture, final)
        body = table.lines()
        order = self._ordered(list(final.symbols))
        definitions = [lines for symbol in order if (lines := self._with_words(symbol, final))]
        layouts = block_names([layout_of(block) for block in table.blocks])
        blocks = [block_lines(name, layout, decodes=self.decodes) for layout, name in layouts.items()]
        words = ModelWords(
            self.architecture, table.has_position, self.decodes, isinstance(self.model.head, ClassifierHead)
        )
        parts = [*definitions, *blocks, model_lines(words, body), loader_lines(weights)]
        text = "\n\n\n".join("\n".join(lines) for lines in _constants_together(parts))
        final.externals |= {External("torch", None), External("torch", "nn"), External("torch", "Tensor")}
        final.externals |= {External("pathlib", "Path"), External("safetensors.torch", "load_model")}
        imports = _imports(self._allowed(final), text)
        gap = "\n\n\n" if re.match(r"(class|def|@|#)", text) else "\n\n"
        return f'"""{title}\n"""\n\nfrom __future__ import annotations\n\n{imports}{gap}{text}\n'

    def _settled(self, names: dict[Symbol, str], fixed: Mapping[Symbol, Mapping[str, Any]]) -> Emitter:
        """An emitter that has seen all that the model reaches, and so knows every attribute that is read."""
        emitter = Emitter(self.program, self.constants, names, fixed=fixed)
        emitter.attributes |= {"init_state", "prefill", "step"} if self.decodes else set()
        if self.decodes:
            emitter.use(STATE)
        size = -1
        while size != (size := len(emitter.attributes) + len(emitter.symbols) + len(emitter.supers)):
            Table(self.model, self.architecture, emitter).lines()
            for symbol in list(emitter.symbols):
                self._definition(symbol, emitter)
        return emitter

    def _fresh(self) -> Emitter:
        """With what is read known, and nothing noted as needed yet."""
        known = self.emitter
        emitter = Emitter(
            self.program,
            self.constants,
            known.names,
            set(known.attributes),
            supers=set(known.supers),
            fixed=known.fixed,
        )
        if self.decodes:
            emitter.use(STATE)
        return emitter

    def _allowed(self, emitter: Emitter) -> set[External]:
        """What the file may import.

        Raises:
            UnsupportedError: the code of a layer needs another package.
        """
        for external in emitter.externals:
            top = external.package.split(".")[0]
            if top not in ALLOWED and top not in sys.stdlib_module_names:
                raise UnsupportedError(
                    f"{self._layer_of(emitter.imported_by.get(external, ''))} needs the package '{top}', "
                    "which a file that needs only torch may not; choose the format torch-export or onnx"
                )
        return emitter.externals

    def _layer_of(self, module: str) -> str:
        """The first layer with a module from this file."""
        for index, (block, layer) in enumerate(zip(self.model.blocks, self.architecture.layers, strict=True)):
            if any(type(part).__module__ == module for part in block.modules()):
                return f"layer {index} ({layer.mixer.kind}, {layer.feed_forward.kind})"
        return "the model"

    def _definition(self, symbol: Symbol, emitter: Emitter) -> list[str]:
        node = self.program.definition(symbol)
        source = self.program.source(symbol.module)
        if isinstance(node, ast.ClassDef):
            return ClassWriter(emitter).lines(symbol)
        if isinstance(node, ast.FunctionDef):
            lines = emitter.function(source, node, None, 0)
            new = emitter.names.get(symbol)
            if new:
                at = next(i for i, line in enumerate(lines) if line.startswith("def "))
                lines[at] = lines[at].replace(f"def {symbol.name}(", f"def {new}(", 1)
            return lines
        return emitter.statement(node, Scope(source, None), 0)[0]

    def _needs(self, symbol: Symbol) -> list[Symbol]:
        emitter = self._fresh()
        emitter.symbols.clear()
        self._definition(symbol, emitter)
        return list(emitter.symbols)

    def _ordered(self, roots: Sequence[Symbol]) -> list[Symbol]:
        """Everything needed, what a definition uses before it."""
        order: dict[Symbol, None] = {}
        open_: set[Symbol] = set()

        def visit(symbol: Symbol) -> None:
            if symbol in order or symbol in open_:
                return
            open_.add(symbol)
            for other in self._needs(symbol):
                visit(other)
            order[symbol] = None

        for root in roots:
            visit(root)
        return list(order)

    def _with_words(self, symbol: Symbol, emitter: Emitter) -> list[str]:
        """A definition; above a module's class, what the module says of it."""
        lines = self._definition(symbol, emitter)
        value = self.program.value(symbol)
        is_module = isinstance(value, type) and issubclass(value, nn.Module)
        if not lines or not is_module or symbol.module in self._told:
            return lines
        self._told.add(symbol.module)
        return [*_as_comment(self.program.source(symbol.module).docstring), *lines]

    @property
    def _told(self) -> set[str]:
        """Modules whose words stand in the file."""
        if not hasattr(self, "_told_modules"):
            self._told_modules: set[str] = set()
        return self._told_modules


def _renamed(symbols: Sequence[Symbol] | dict[Symbol, None]) -> dict[Symbol, str]:
    """New names for those that several modules have, made with the name of the module."""
    counts = Counter(symbol.name for symbol in symbols)
    names: dict[Symbol, str] = {}
    for symbol in symbols:
        if symbol == STATE or (counts[symbol.name] == 1 and symbol.name not in RESERVED):
            continue
        home = symbol.module.split(".")[-1]
        if symbol.name.lstrip("_").isupper():
            names[symbol] = f"{home.upper()}_{symbol.name.lstrip('_')}"
        elif symbol.name.lstrip("_")[0].isupper():
            names[symbol] = "".join(part.capitalize() for part in home.split("_")) + symbol.name
        else:
            names[symbol] = f"{home}_{symbol.name.lstrip('_')}"
    return names


def _constants_together(parts: Sequence[list[str]]) -> Iterator[list[str]]:
    """One-line constants that follow each other stand in one paragraph."""
    waiting: list[str] = []
    for lines in parts:
        if len(lines) <= 2 and not lines[-1].startswith((" ", ")", "]")) and "def " not in lines[-1]:
            waiting += lines
            continue
        if waiting:
            yield waiting
        waiting = []
        yield lines
    if waiting:
        yield waiting


def _as_comment(docstring: str) -> list[str]:
    """What does not fit on a line goes on in the next one of its paragraph."""
    lines: list[str] = []
    over = ""
    for line in [*docstring.splitlines(), ""]:
        if over and (not line or line.startswith(" ")):
            lines.append(over)
            over = ""
        text, over = f"{over} {line}" if over else line, ""
        if len(text) > WIDEST_COMMENT:
            cut = text.rfind(" ", 0, WIDEST_COMMENT + 1)
            text, over = text[:cut], text[cut + 1 :]
        lines.append(text)
    return [f"# {line}".rstrip() for line in lines[:-1]]


def _imports(externals: set[External], text: str) -> str:
    """Import statements in two groups, for those names that the text has."""
    own: dict[str, set[str | None]] = {}
    for external in externals:
        name = external.name or external.package
        if re.search(rf"(?<![\w.]){re.escape(name)}\b", text):
            own.setdefault(external.package, set()).add(external.name)
    groups: list[list[str]] = [[], []]
    for package, names in own.items():
        group = groups[1 if package.split(".")[0] in ALLOWED else 0]
        if None in names:
            group.append(f"import {package}")
        chosen = sorted((name for name in names if name), key=_import_key)
        if chosen:
            group.append(f"from {package} import {', '.join(chosen)}")
    return "\n\n".join(
        "\n".join(sorted(group, key=lambda line: (line.startswith("from"), line)))
        for group in groups
        if group
    )


def _import_key(name: str) -> tuple[int, str]:
    """Constants, classes, then the rest, as linters sort them."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, name
