"""Names of a program: where each is defined, found by reading the sources, without running them."""

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import ModuleType

from ...errors import UnsupportedError
from .text import SourceText

ALLOWED = frozenset({"torch", "safetensors"})
"""Packages that generated code may import, beside Python's own."""

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name on the top level of a module of ours."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class External:
    """What an import statement names: `from package import name`, or `import package` where name is None."""

    package: str
    name: str | None


class ModuleSource:
    """One module: its text, its definitions and its imports."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        try:
            text = inspect.getsource(module)
        except (OSError, TypeError) as error:
            raise UnsupportedError(
                f"module '{module.__name__}' has no Python source, so that no self-contained code can be "
                "made of it; choose the format torch-export or onnx"
            ) from error
        self.text = SourceText(text)
        self.tree = ast.parse(text)

    @cached_property
    def docstring(self) -> str:
        return inspect.cleandoc(ast.get_docstring(self.tree) or "")

    @cached_property
    def definitions(self) -> Mapping[str, Definition]:
        found: dict[str, Definition] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
            elif isinstance(node, ast.Assign):
                found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        return found

    @cached_property
    def imports(self) -> Mapping[str, External]:
        """Name here -> what it names; relative imports made absolute."""
        found: dict[str, External] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    whole = alias.name if alias.asname else alias.name.split(".")[0]
                    found[alias.asname or whole] = External(whole, None)
            elif isinstance(node, ast.ImportFrom):
                package = self._absolute(node)
                for alias in node.names:
                    found[alias.asname or alias.name] = External(package, alias.name)
        return found

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        name = self.module.__name__
        parts = name.split(".") if hasattr(self.module, "__path__") else name.split(".")[:-1]
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, *([node.module] if node.module else [])])


@lru_cache(maxsize=512)
def _source(module: str) -> ModuleSource:
    """Read once: a module does not change while it is loaded."""
    return ModuleSource(sys.modules[module])


class Program:
    """The modules of ours that a model is made of: this project's, and those of plug-in packages."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def source(self, module: str) -> ModuleSource:
        return _source(module)

    def owns(self, module: str) -> bool:
        return module.split(".")[0] in self.packages

    def find(self, module: str, name: str) -> Symbol | External | None:
        """What a global name of a module names; None: a builtin or nothing."""
        source = self.source(module)
        if name in source.definitions:
            return Symbol(module, name)
        imported = source.imports.get(name)
        if imported is None:
            return None
        if not self.owns(imported.package):
            return imported
        if imported.name is None or f"{imported.package}.{imported.name}" in sys.modules:
            raise UnsupportedError(
                f"module '{module}' uses module '{imported.package}' as a whole; import the names it needs, "
                "so that self-contained code can be made of it"
            )
        return self.find(imported.package, imported.name)

    def definition(self, symbol: Symbol) -> Definition:
        return self.source(symbol.module).definitions[symbol.name]

    def value(self, symbol: Symbol) -> object:
        """What the name stands for in the running program."""
        return getattr(sys.modules[symbol.module], symbol.name)
