"""A Markdown file with YAML at its head, changed in places: what a person wrote stays."""

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
    """The text of a file that is no link: it could lead what is changed to another file.

    Raises UserError if it cannot be read.
    """
    if path.is_symlink():
        raise UserError(f"not a regular file: {path}")
    try:
        return read_file(path, MAX_TEXT).decode()
    except UnicodeDecodeError:
        raise UserError(f"not a text in UTF-8: {path}") from None


def parted(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """Head and body of the text of a file. Raises UserError if it has no head."""
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?\n", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise UserError(f"YAML between two lines of --- was expected at the head: {path}")
    return parse_yaml(match[1], path), text[match.end() :]


def joined(head: Mapping[str, Any], body: str) -> str:
    """The text with this head."""
    written = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)
    return f"---\n{written}---\n{'' if body.startswith(chr(10)) else chr(10)}{body}"


def with_section(text: str, name: str, words: str, before: str) -> str:
    """The text with a section between marks that no reader shows, in place of one of this name;
    a new one before the line `before`, or at the end."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{words}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: section, text, count=1)
    first, line, rest = text.partition(f"\n{before}\n")
    return f"{first.rstrip()}\n\n{section}\n{line}{rest}"
