"""Tables for a terminal, a log and Markdown."""

import re
from functools import partial

from rich.console import Console

WIDE = 160  # columns of a table that is written to a file


def own_console() -> Console:
    """The terminal; where the output goes elsewhere, one on which tables need not fold."""
    # Words as they are: in [brackets], between :colons:, and numbers.
    plain = partial(Console, highlight=False, markup=False, emoji=False)
    return plain() if plain().is_terminal else plain(width=WIDE)


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def code(words: str) -> str:
    """Words as Markdown's code, whatever backticks are among them."""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    space = " " if fence != "`" else ""
    return f"{fence}{space}{words}{space}{fence}"
