"""Edit a Markdown file with a YAML head in place, keeping the user's text."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fer.config import parse_yaml
from fer.errors import UserError
from fer.files import read_file

MAX_TEXT = 1 << 20  # bytes


def read(path: Path) -> str:
    """Read a text file, but not through a link, which could redirect a later write.

    Raises UserError if it cannot be read.
    """
    if path.is_symlink():
        raise UserError(f"not a regular file: {path}")
    try:
        return read_file(path, MAX_TEXT).decode()
    except UnicodeDecodeError:
        raise UserError(f"not UTF-8 text: {path}") from None


def parted(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """Split a text into head and body. Raise UserError if it has no head."""
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?\n", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise UserError(f"the file must start with YAML between two lines of ---: {path}")
    return parse_yaml(match[1], path), text[match.end() :]


def joined(head: Mapping[str, Any], body: str) -> str:
    """Join a head and a body."""
    written = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)
    return f"---\n{written}---\n{'' if body.startswith(chr(10)) else chr(10)}{body}"


def with_section(text: str, name: str, words: str, before: str) -> str:
    """Insert a section between invisible markers, or replace the one with this name.

    A new section goes before the line `before`, or at the end.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{words}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: section, text, count=1)
    first, line, rest = text.partition(f"\n{before}\n")
    return f"{first.rstrip()}\n\n{section}\n{line}{rest}"
