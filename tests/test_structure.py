"""The package's walls: imports go one way, `__all__` is what a module offers, the prose only gets plainer."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[1] / "tmcp_serverless"
NAME = PACKAGE.name

OUTER = {
    "app",
    "handler",
    "cli",
    "dev",
    "hosts",
    "maintenance",
    "notifier",
    "observability",
    "health",
    "mounting",
    "subscription_bus",
    "transports",
}
ALLOWED = {
    "http": set[str](),
    "sessions": set[str](),
    "sdk": {"http", "sessions"},
    "handshake": {"http", "sdk", "sessions"},
    "modern": {"http", "sdk", "sessions"},
    "postgres": {"sessions"},
    "testing": {"sessions"},
    "hosts": {"handler", "handshake", "http", "maintenance", "sdk", "sessions"},
    "dev": {"handler", "hosts", "http", "postgres", "sdk", "testing"},
    "cli": {"dev", "hosts", "maintenance", "managers", "observability", "postgres", "sessions"},
}
"""The parts that each package may import, beside the modules at the root that import none of these."""

LEAVES = {
    "closable", "config", "errors", "exits", "forms", "logs", "marks", "overrides", "tracebacks",
}  # fmt: skip
"""Modules at the root that every package may import, and that import no package at run time."""

PRIVATE_OF_THE_SDK = PACKAGE / "sdk" / "private.py"
OF_THE_STANDARD_LIBRARY = {"_asdict", "_exit", "_replace"}
OF_THE_DRIVER = {"_get_unique_id"}
"""Underscore names that modules may use of objects that are not theirs."""

QUESTION_WORDS = {"what", "who", "whose", "whom", "whether", "how", "where", "which", "whoever", "whatever"}
MOST_FIRST_LINES = 3.0
MOST_QUESTION_WORDS = 8.0
"""Percent of docstrings that begin with a question word, and question words in a thousand words of prose."""


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def name(self) -> str:
        return ".".join(self.path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def part(self) -> str:
        """The folder below the root that the module is in, or the module's own name."""
        return self.path.relative_to(PACKAGE).with_suffix("").parts[0]

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    def imports(self) -> Iterator[str]:
        """Yield the modules that running this one imports, sooner or later."""
        for node in _running(self.tree):
            if isinstance(node, ast.Import):
                yield from (each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.base_of(node)
                yield from (f"{base}.{each.name}" for each in node.names) if base == NAME else [base]

    def base_of(self, node: ast.ImportFrom) -> str:
        parts = self.package.split(".")
        up = parts[: len(parts) - node.level + 1] if node.level else []
        return ".".join([*up, *([node.module] if node.module else [])])


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through what is run: nothing below `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for each in child.orelse:
                yield from (each, *_running(each))
        else:
            yield child
            yield from _running(child)


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
KNOWN = {module.name for module in MODULES}


def _arrows() -> Iterator[tuple[str, str, str]]:
    """Yield importing part, imported part, and the importing module's name."""
    for module in MODULES:
        for imported in module.imports():
            if imported.startswith(f"{NAME}."):
                part = imported.split(".")[1]
                if part != module.part:
                    yield module.part, part, module.name


def test_packages_import_only_what_is_below_them() -> None:
    forbidden = [
        f"{module} imports {imported}"
        for importer, imported, module in _arrows()
        if importer in ALLOWED and imported not in ALLOWED[importer] | LEAVES
    ]
    assert forbidden == []


def test_the_leaves_import_leaves_alone() -> None:
    assert [arrow for arrow in _arrows() if arrow[0] in LEAVES and arrow[1] not in LEAVES] == []


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {module.part for module in MODULES} - {"__init__", "__main__"}
    assert parts == ALLOWED.keys() | LEAVES | OUTER | {"managers"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module.name: set(_at_import(module)) for module in MODULES}
    while leaves := [name for name, imported in graph.items() if not imported & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert sorted(graph) == []


def _at_import(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom):
            base = module.base_of(node)
            names = {f"{base}.{each.name}" for each in node.names} & KNOWN
            yield from names or {base}


@pytest.mark.parametrize(
    "module", [each for each in MODULES if each.path != PRIVATE_OF_THE_SDK], ids=lambda module: module.name
)
def test_private_names_of_the_sdk_are_in_one_module(module: Module) -> None:
    of_the_sdk = {name for name, _ in _private_names(_parse(PRIVATE_OF_THE_SDK))}
    own = _own_private_names(module.tree) | OF_THE_STANDARD_LIBRARY | OF_THE_DRIVER
    used = {f"{whose}.{name}" for name, whose in _private_names(module.tree) if name not in own - of_the_sdk}
    imported = {name for name in module.imports() if "._" in name and not name.startswith(f"{NAME}.")}
    assert used | imported == set()


def test_the_private_names_of_the_sdk_are_found() -> None:
    """Or the test above could not fail."""
    found = {name for name, _ in _private_names(_parse(PRIVATE_OF_THE_SDK))}
    assert found >= {"_lowlevel_server", "_mcp_server", "_streams", "_bus", "_security", "_session_manager"}
    [private] = [each for each in MODULES if each.path == PRIVATE_OF_THE_SDK]
    assert "mcp.server._streamable_http_modern" in set(private.imports())


def _private_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield underscore names of other objects than `self`, and the objects' expressions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name, whose = node.attr, ast.unparse(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name, whose = str(getattr(node.args[1], "value", "")), ast.unparse(node.args[0])
        else:
            continue
        if name.startswith("_") and not name.endswith("__") and whose not in ("self", "cls"):
            yield name, whose


def _own_private_names(tree: ast.Module) -> set[str]:
    """Return the underscore names that the module's own classes and functions define."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
    return own


def _offered(tree: ast.Module) -> list[str] | None:
    """Return what `__all__` says, `None` where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            constants = [each for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            return [str(each.value) for each in constants]
    return None


def _defined(tree: ast.Module) -> set[str]:
    """Return the functions and classes of the module's top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def _public(tree: ast.Module) -> set[str]:
    """Return the public ones of them, without subcommands, which their group offers."""
    subcommands = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(".command(" in ast.unparse(each) for each in node.decorator_list)
    }
    return {name for name in _defined(tree) - subcommands if not name.startswith("_")}


def _bound(tree: ast.Module) -> set[str]:
    """Return every name that the module's top level binds."""
    found = _defined(tree)
    for node in tree.body:
        for each in ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.ClassDef) else ():
            if isinstance(each, ast.alias):
                found.add((each.asname or each.name).partition(".")[0])
            elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                found.add(each.id)
    return found


WITH_NAMES = [module for module in MODULES if _offered(module.tree) is not None]


@pytest.mark.parametrize("module", WITH_NAMES, ids=lambda module: module.name)
def test_all_is_what_a_module_defines_for_others(module: Module) -> None:
    offered = _offered(module.tree) or []
    assert len(set(offered)) == len(offered)
    if module.path.parent == PACKAGE and module.path.name == "__init__.py":
        return  # its names are those of other modules, see test_imports.py
    assert set(offered) - _bound(module.tree) == set()
    assert _public(module.tree) - set(offered) == set()


def test_modules_take_from_each_other_only_what_is_offered() -> None:
    offered = {module.name: _offered(module.tree) for module in WITH_NAMES}
    taken = [
        f"{module.name} takes {base}.{each.name}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (base := module.base_of(node)) in offered
        for each in node.names
        if each.name not in (offered[base] or []) and f"{base}.{each.name}" not in KNOWN
    ]
    assert taken == []


def test_the_prose_gets_plainer() -> None:
    docstrings, words = _prose()
    firsts = [re.findall(r"[A-Za-z']+", text.lower())[:1] for text in docstrings]
    beginning = 100 * sum(set(first) <= QUESTION_WORDS and bool(first) for first in firsts) / len(firsts)
    share = 1000 * sum(word in QUESTION_WORDS for word in words) / len(words)
    assert beginning <= MOST_FIRST_LINES
    assert share <= MOST_QUESTION_WORDS


def _prose() -> tuple[list[str], list[str]]:
    docstrings = [text for module in MODULES for text in _strings(module.tree)]
    comments = [text for module in MODULES for text in _comments(module.path.read_text())]
    words = [word.lower() for text in [*docstrings, *comments] for word in re.findall(r"[A-Za-z']+", text)]
    return docstrings, words


def _strings(tree: ast.Module) -> Iterator[str]:
    """Yield docstrings, those of attributes too."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.value.value


def _comments(text: str) -> Iterator[str]:
    """Yield comments that have a line of their own."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            yield token.string
