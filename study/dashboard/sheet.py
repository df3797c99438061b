"""A figure of the page as a standalone file, with title, legend and note."""

import re
from collections.abc import Iterator, Sequence
from html import escape

from study.page.style import ALONE
from study.page.svg import LETTER

Entry = tuple[str, str, str]
"""A legend entry: kind of mark, text and symbol."""
LINE = 22
"""Height of a line of text."""
EDGE = 10  # margin to the left of text
NEXT = 5  # letters between legend entries


def sheet(title: str, figure: str, key: Sequence[Entry] = (), note: str = "") -> str:
    """Return an SVG file with a title, a figure (SVG of the page), a legend and a note."""
    across, down = _size(figure)
    words = max(map(len, (title, note, *(f"{'':5}{entry[1]}" for entry in key))))
    wide = max(across, round(LETTER * words) + 2 * EDGE)
    place = f"x='0' y='{LINE}' width='{across}' height='{down}'"
    parts = [text(EDGE, 16, title, style="font-weight:600")]
    parts.append(figure.replace("<svg ", f"<svg {place} ", 1))
    high = LINE + down
    for line in _lines_of(key, wide - 2 * EDGE):
        high += LINE
        parts += _entries(line, high - 6)
    if note:
        high += LINE
        parts.append(text(EDGE, high - 6, note, style="fill:var(--soft)"))
    high += 6
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {wide} {high}' width='{wide}' "
        f"height='{high}'><style>{ALONE}</style><rect width='100%' height='100%' fill='#fff'/>"
        f"{''.join(parts)}</svg>\n"
    )


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """Return text at a position."""
    styled = f" style='{style}'" if style else ""
    return f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}'{styled}>{escape(words)}</text>"


def _size(svg: str) -> tuple[int, int]:
    found = re.search(r"viewBox='0 0 (\d+) (\d+)'", svg)
    assert found is not None
    return int(found[1]), int(found[2])


def _entries(line: Sequence[Entry], y: float) -> Iterator[str]:
    x = float(EDGE)
    for kind, words, sign in line:
        mark = f"<tspan class='{kind}' style='fill:currentColor'>{sign}</tspan>"
        yield f"<text x='{x:g}' y='{y:g}'>{mark} {escape(words)}</text>"
        x += LETTER * (len(words) + NEXT)


def _lines_of(key: Sequence[Entry], room: float) -> list[list[Entry]]:
    """Wrap legend entries into lines."""
    lines: list[list[Entry]] = []
    left = 0.0
    for entry in key:
        width = LETTER * (len(entry[1]) + NEXT)
        if not lines or width > left:
            lines.append([])
            left = room
        lines[-1].append(entry)
        left -= width
    return lines
