"""Writes the pages that follow from the code: ``settings.md``, ``commands.md``, ``reference.md``.

``python .ci/reference.py`` writes them, and links the package's parts into ``build/api``, where the API
reference reads them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import gsco
import typer
from gsco import Settings
from pydantic import SecretStr
from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
SETTINGS = """\
<!-- Written by .ci/reference.py: change the code, then run make docs. -->

# Settings

Every setting is an environment variable, or a line of a file `.env` in the working directory. In Python
each is an argument of `GSCo.from_settings`, in lower case and without the prefix. A misspelt name is an
error that names the closest one.

| variable | meaning | values | default |
|---|---|---|---|"""
REFERENCE = """\
<!-- Written by .ci/reference.py: change the code, then run make docs. -->

# Python API

Everything here is imported from `gsco`: `from gsco import GSCo, Case, Task`. Each name is loaded at its first
use, so that `import gsco` takes milliseconds.
"""
COMMANDS = """\
<!-- Written by .ci/reference.py: change the code, then run make docs. -->

# Commands

The exit status is 0 where all went well, 2 for a wrong image, task or setting, and 1 for any other failure.
"""


def settings_page() -> str:
    """Describe every field of ``Settings`` from its annotation, default and docstring."""
    described = docstrings()
    rows = [
        f"| `GSCO_{name.upper()}` | {described[name]} | {values(field)} | {default(name, field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([SETTINGS, *rows, ""])


def docstrings() -> dict[str, str]:
    """Return the docstring below each field, on one line and with its markup in Markdown."""
    [definition] = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)):
                raise SystemExit(f"the setting {field.target.id} has no docstring")
            words = " ".join(str(text.value.value).split())
            found[field.target.id] = words.replace("``", "`").replace("|", "\\|").rstrip(".")
    return found


def values(field: FieldInfo) -> str:
    """Name what a field takes."""
    options = literals(field.annotation)
    if options:
        listed = ", ".join(f"`{option}`" for option in options)
        return listed + (", with commas" if get_origin(field.annotation) is frozenset else "")
    names = {int: "integer", float: "number", Path: "path"}
    kinds = [one for one in (field.annotation, *get_args(field.annotation)) if one in names]
    return names[kinds[0]] if kinds else "text"


def literals(annotation: Any) -> tuple[str, ...]:
    """Return the options of a literal, on its own or within a set."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(literals, get_args(annotation))), ())


def default(name: str, field: FieldInfo) -> str:
    """Write a field's default; empty where there is none."""
    if name == "home":
        return "`~/.cache/gsco`"
    value = field.default
    if value is None or value in ("", frozenset()) or isinstance(value, SecretStr):
        return ""
    return f"`{value}`"


def commands_page() -> str:
    """Describe every command from its ``--help``."""
    from gsco.agent.cli import app

    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="gsco")
    return "\n".join([COMMANDS, *command_sections(root, context, 2)])


def command_sections(command: Any, context: Any, level: int) -> list[str]:
    """Describe a command and those below it; groups of one name are described once."""
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\f", "").split("\n\n\n")[0]
    lines = [f"{'#' * level} `{context.command_path}`\n", text + "\n", f"```text\n{usage}\n```\n"]
    rows = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows += [
        (parameter.make_metavar(context), parameter.help or "")
        for parameter in command.get_params(context)
        if parameter.param_type_name == "argument" and not parameter.get_help_record(context)
    ]
    table = [f"| `{cell(name)}` | {cell(words)} |" for name, words in filter(None, rows)]
    lines += ["| option | meaning |\n|---|---|", *table, ""] if table else []
    for name in names:
        below = command.get_command(context, name)
        if below is not None and not below.hidden:
            inner = typer.Context(below, info_name=name, parent=context)
            lines += command_sections(below, inner, min(level + 1, 4))
    return lines


def cell(text: str) -> str:
    """Write text so that it stays in one cell of a table."""
    return re.sub(r" <[^>]*>", "", " ".join(text.split())).replace("|", "\\|")


def reference_page() -> str:
    """Name every public object for mkdocstrings, by the module that it lives in."""
    lines = [REFERENCE]
    for title, belongs in SECTIONS.items():
        lines += [f"## {title}\n"]
        for name in sorted(filter(belongs, gsco.__all__), key=lambda name: name != "GSCo"):
            found = getattr(gsco, name)
            lines += [f"::: {found.__module__}.{found.__name__}", f"    options:\n      heading: {name}"]
            lines += ["      members: false\n" if name == "Settings" or is_error(name) else ""]
    return "\n".join(lines)


def is_error(name: str) -> bool:
    """Tell whether a public name is one of the errors."""
    found = getattr(gsco, name)
    return isinstance(found, type) and issubclass(found, Exception)


def lives_in(*modules: str) -> Callable[[str], bool]:
    """Make a test for public names whose objects live in one of some modules."""

    def test(name: str) -> bool:
        module = getattr(getattr(gsco, name), "__module__", "")
        return not is_error(name) and module.startswith(tuple(f"gsco.{one}" for one in modules))

    return test


SECTIONS: dict[str, Callable[[str], bool]] = {
    "Diagnoses and conversations": lives_in("agent", "settings"),
    "Records": lives_in("case"),
    "Protocols": lives_in("models", "tools"),
    "Errors": is_error,
}


def pages() -> dict[Path, str]:
    """Return all generated pages by their path."""
    docs = ROOT / "docs"
    return {
        docs / "settings.md": settings_page(),
        docs / "commands.md": commands_page(),
        docs / "reference.md": reference_page(),
    }


def link_package() -> None:
    """Link the parts of the package below ``build/api/gsco``, without what else lies in the repository."""
    folder = ROOT / "build" / "api" / "gsco"
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        link.unlink()
    for part in Path(gsco.__file__).parent.resolve().iterdir():
        if part.suffix == ".py" or (part / "__init__.py").is_file():
            (folder / part.name).symlink_to(part)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    link_package()
