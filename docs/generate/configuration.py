"""Write docs/configuration.md and the overrides' types from `Settings`: `make docs`.

A setting is declared once, in `tmcp_serverless/config.py`: name, type, default, bounds and sentence.
"""

import ast
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmcp_serverless.config import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["OVERRIDES", "PAGE", "overrides", "page"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"
OVERRIDES = ROOT / "tmcp_serverless" / "overrides.py"
SPELLING = {
    "_Names": "_Names",
    "_Hosts": "_Names",
    "_Origins": "_Names",
    "_Keys": "_Names",
    "_Path": "str",
    "_Schema": "str",
    "_Namespace": "str",
}
"""Types of `Settings` with their validators, and the types that callers write."""

SECTIONS = {
    "Database": "database_url",
    "Tables": "namespace",
    "Sessions": "session_idle_seconds",
    "Endpoints": "path",
    "The modern era (2026-07-28)": "request_state_keys",
    "Requests and streams": "max_body_bytes",
    "Hosts and origins": "allowed_hosts",
    "Logs and metrics": "metrics",
}
"""Headings of the page, and the setting that each begins with."""

INTRODUCTION = """\
# Configuration

<!-- Written by `make docs` from tmcp_serverless/config.py. Change the settings there. -->

A deployment needs one setting: `TMCP_DATABASE_URL`.

* Each setting is an environment variable, and a keyword argument of `create_handler` in lower case without the
  prefix: `create_handler(server, session_idle_seconds=3600)`. An argument overrides the variable.
* With `create_handler(server, settings=Settings(...))` the environment is not read.
* An empty variable counts as unset, except `TMCP_HEALTH_PATH` and `TMCP_READY_PATH`.
* Lists are separated by commas, booleans are `true` or `false`, times are seconds unless the name says otherwise.
* A value of the wrong kind raises `ConfigurationError` when the handler is created. An unknown `TMCP_*` variable is
  reported in a warning, with the closest name.

`tmcp-serverless doctor` shows the configuration and checks the database with it. [Operations](operations.md)
explains connections, secrets, TLS, tables and poolers.
"""

HEAD = '''\
"""The settings as keyword arguments, for type checkers and editors: written by `make docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SettingsOverrides"]

_Names: TypeAlias = "str | Sequence[str]"
"""Several, or one text with commas in between."""


class SettingsOverrides(TypedDict, total=False):
    """Any of the fields of `tmcp_serverless.Settings`, which documents each of them."""

'''


def page() -> str:
    """Return docs/configuration.md."""
    return "\n".join(_page()) + "\n"


def overrides() -> str:
    """Return tmcp_serverless/overrides.py."""
    fields = "\n".join(f"    {_name(each)}: {_spelled(each.annotation)}" for each in _declarations())
    return f"{HEAD}{fields}\n"


def _page() -> Iterator[str]:
    yield INTRODUCTION.rstrip()
    headings = {first: heading for heading, first in SECTIONS.items()}
    for name, field in Settings.fields_by_name().items():
        if name in headings:
            yield f"\n## {headings[name]}"
        yield f"\n### `TMCP_{name.upper()}`\n"
        yield f"{_facts(name, field)}\n"
        yield re.sub(r"\w+\.md", r"[\g<0>](\g<0>)", _docstrings()[name])


def _facts(name: str, field: "FieldInfo") -> str:
    kind = next(_spelled(each.annotation) for each in _declarations() if _name(each) == name)
    kind = kind.replace(" | None", "").replace("_Names", "list").replace('"', "")
    facts = [f"`{name}`", _kind(kind), f"default: {_shown(field.default)}", *_bounds(field)]
    return " · ".join(facts)


def _kind(kind: str) -> str:
    if not kind.startswith("Literal["):
        return {"str": "text", "bool": "boolean", "int": "integer", "float": "number"}.get(kind, kind)
    return " or ".join(f"`{each}`" for each in kind.removeprefix("Literal[").rstrip("]").split(", "))


def _shown(default: Any) -> str:
    if default in (None, ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:.12g}`" if isinstance(default, (int, float)) else f"`{default}`"


def _bounds(field: "FieldInfo") -> Iterator[str]:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for bound in field.metadata:
        for attribute, word in words.items():
            if (limit := getattr(bound, attribute, None)) is not None:
                yield f"{word} `{limit:.12g}`"


def _class() -> ast.ClassDef:
    module = ast.parse(inspect.getsource(sys.modules[Settings.__module__]))
    return next(each for each in module.body if isinstance(each, ast.ClassDef) and each.name == "Settings")


def _declarations() -> list[ast.AnnAssign]:
    """Return the fields' lines in the source, in their order."""
    return [
        each
        for each in _class().body
        if isinstance(each, ast.AnnAssign) and not _target(each).startswith("_")
    ]


def _docstrings() -> dict[str, str]:
    """Return the text below each field, one paragraph a line."""
    body = _class().body
    return {
        _name(field): "\n\n".join(
            " ".join(part.split()) for part in inspect.cleandoc(text.value.value).split("\n\n")
        )
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _target(field: ast.AnnAssign) -> str:
    return ast.unparse(field.target)


def _name(field: ast.AnnAssign) -> str:
    """Return the name that callers use: the alias, where the field has one."""
    given = Settings.model_fields.get(_target(field))
    return (given.alias if given else None) or _target(field)


def _spelled(annotation: ast.expr) -> str:
    """Return the annotation as a caller's type."""
    if isinstance(annotation, ast.BinOp):
        return f"{_spelled(annotation.left)} | {_spelled(annotation.right)}"
    written = ast.unparse(annotation).replace("'", '"')
    return SPELLING.get(written, written)


def main() -> None:
    """Write both files."""
    for path, text in ((PAGE, page()), (OVERRIDES, overrides())):
        path.write_text(text)
        sys.stdout.write(f"Wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
