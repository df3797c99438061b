"""List the commands of a package, or run one."""

import ast
import runpy
import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from fer import command
from fer.errors import UserError


def listed(package: str) -> dict[str, str]:
    """Return the commands of a package by name, with their summaries, without importing them."""
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    commands = {}
    for file in sorted([*folder.glob("*.py"), *folder.glob("*/__main__.py")]):
        text = file.read_text(encoding="utf-8")
        if file == folder / "__main__.py" or "\n    command.run(" not in text:
            continue
        name = file.parent.name if file.stem == "__main__" else file.stem
        commands[name] = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    return commands


def choose(package: str) -> None:
    """Run the command named by the first argument, or list all commands."""
    commands = listed(package)
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in commands:
        del sys.argv[1]
        runpy.run_module(f"{package}.{name}", run_name="__main__", alter_sys=True)
    else:
        command.run(partial(show, package, commands, name))


def show(package: str, commands: Mapping[str, str], asked: str) -> None:
    """List the commands of a package. Raise UserError if anything but help was `asked` for."""
    if asked not in ("--help", "-h"):
        raise UserError(f"{package} has no command {asked!r}{command.nearest(asked, commands)}")
    width = max(map(len, commands))
    print(f"usage: python -m {package}.COMMAND [--help]\n")
    for each, line in commands.items():
        print(f"  {each:{width}}  {line}")
