"""Tables for a terminal, a log and Markdown."""

import re
from functools import partial

from rich.console import Console

WIDE = 160  # columns of a table written to a file


def own_console() -> Console:
    """Return a console for stdout; wide if redirected, so that tables need not wrap."""
    # No markup: text may contain [brackets] and :colons:.
    plain = partial(Console, highlight=False, markup=False, emoji=False)
    return plain() if plain().is_terminal else plain(width=WIDE)


def markdown(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table; the first one is the header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def code(words: str) -> str:
    """Return text as a Markdown code span, even if it contains backticks."""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    space = " " if fence != "`" else ""
    return f"{fence}{space}{words}{space}{fence}"
