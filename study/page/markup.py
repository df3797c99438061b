"""Building blocks of a page as HTML. Text is escaped unless it is already `Html`."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from study.page.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Makes the browser refuse to load anything external."""


class Html(str):
    """Text that is HTML."""


Cell = Any
"""Html, or a value to format with `shown`."""


def html(value: Cell) -> Html:
    """Return a value as HTML."""
    return value if isinstance(value, Html) else Html(escape(shown(value)))


def shown(value: Any) -> str:
    """Format a value for readers: `0.0002`, `yes`, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def page(title: str, *parts: Html) -> str:
    """Return a complete page."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, *parts: Html) -> Html:
    """Return parts under a heading; empty without parts."""
    content = "".join(parts)
    return Html(f"<section><h2>{escape(title)}</h2>{content}</section>" if content else "")


def paragraph(words: str, kind: str = "") -> Html:
    """Return text as a paragraph; empty without text."""
    return tagged("p", words, kind) if words else Html()


def tagged(tag: str, content: Cell, kind: str = "") -> Html:
    """Return content in an element."""
    of = f" class='{kind}'" if kind else ""
    return Html(f"<{tag}{of}>{html(content)}</{tag}>")


def card(title: str, value: Cell, note: Cell = "") -> Html:
    """Return one fact: its name, its value in large type, and a short note."""
    small = tagged("small", note) if note else ""
    return Html(f"<div class='card'>{tagged('h3', title)}{tagged('b', value)}{small}</div>")


def within(kind: str, parts: Iterable[Html]) -> Html:
    """Return parts in an element of a CSS class; empty without parts."""
    content = "".join(parts)
    return Html(f"<div class='{kind}'>{content}</div>" if content else "")


def figure(svg: str, title: str = "", caption: Cell = "", key: Iterable[Html] = ()) -> Html:
    """Return a figure with title, caption and legend (`key`)."""
    head = tagged("h3", title) if title else ""
    entries = "".join(key)
    below = f"<ul class='key'>{entries}</ul>" if entries else ""
    foot = tagged("figcaption", caption) if caption else ""
    return Html(f"<figure>{head}{svg}{below}{foot}</figure>")


def key(kind: str, words: str, sign: str = "●") -> Html:
    """Return a legend entry for marks of a CSS class."""
    return Html(f"<li class='{kind}'><i>{sign}</i><span>{escape(words)}</span></li>")


def table(rows: Sequence[Sequence[Cell]], kind: str = "") -> Html:
    """Return rows as a table, the first one as header; columns of numbers are right-aligned."""
    head, *body = rows
    numeric = [
        all(_is_number(row[column]) for row in body) and bool(body) for column in range(len(head))
    ]

    def line(tag: str, row: Sequence[Cell]) -> str:
        cells = zip(row, numeric, strict=True)
        return "".join(tagged(tag, each, "number" if right else "") for each, right in cells)

    lines = "".join(f"<tr>{line('td', row)}</tr>" for row in body)
    of = f" class='{kind}'" if kind else ""
    inner = f"<table{of}><thead><tr>{line('th', head)}</tr></thead><tbody>{lines}</tbody></table>"
    return Html(f"<div class='wide'>{inner}</div>")


def _is_number(cell: Cell) -> bool:
    text = shown(cell).replace(",", "")
    if text in ("", "-"):
        return not isinstance(cell, Html)
    try:
        float(text)
    except ValueError:
        return False
    return not isinstance(cell, bool)


def facts(rows: Mapping[str, Cell]) -> Html:
    """Return a table of facts, one per row; empty ones are omitted."""
    lines = "".join(
        f"<tr>{tagged('th', name)}{tagged('td', value)}</tr>"
        for name, value in rows.items()
        if value not in ("", None)
    )
    return Html(f"<div class='wide'><table class='facts'>{lines}</table></div>" if lines else "")


def command(line: str) -> Html:
    """Return a command to paste."""
    return tagged("pre", line)


def items(lines: Iterable[Cell], tag: str = "ul") -> Html:
    """Return a list."""
    content = "".join(tagged("li", line) for line in lines)
    return Html(f"<{tag}>{content}</{tag}>" if content else "")


def folded(title: str, *parts: Html) -> Html:
    """Return parts that are collapsed until the reader opens them."""
    content = "".join(parts)
    return Html(f"<details>{tagged('summary', title)}{content}</details>" if content else "")
