"""Tables for a terminal, a log and Markdown."""

from rich.console import Console

WIDE = 160  # columns of a table that is written to a file


def own_console() -> Console:
    """The terminal; where the output goes elsewhere, one on which tables need not fold."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])
