"""Figures as inline SVG: no scripts, the page's colours, printable.

A mark has a kind, the CSS class by which `study.page.style` colours it, and may have a title,
which browsers show as a tooltip. Figures are drawn small and scale with the page, so that text
stays readable on a phone.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 38
"""Margins in units of the figure, about one pixel each."""
LEAST = 4  # minimum number of intervals between ticks
LETTER = 6.8  # width of a letter, generous: fonts differ
FAR = 1e5  # ticks at or above this, or at or below its inverse, use scientific notation

MARKS = {
    "dot": "M{x} {y}h0",  # the round line caps form the dot
    "diamond": "M{x} {y}m0-5l5 5-5 5-5-5z",
    "cross": "M{x} {y}m-3-3l6 6m0-6l-6 6",
    "dash": "M{x} {y}m-9 0h18",
    "bolt": "M{x} {y}m0-8v16",
}
Number = float | int


@dataclass(frozen=True)
class Axis:
    """An axis of numbers from `low` to `high`, or of `names` at 0, 1, 2 and so on."""

    label: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False  # ticks only at whole numbers
    names: Sequence[str] = ()

    def place(self, value: Number) -> float:
        """Return the relative position of a number, 0..1; outside of that if out of range."""
        if self.names:
            return (value + 0.5) / len(self.names)
        if self.log:
            if value <= 0:
                return -1.0
            low, high, value = math.log(self.low), math.log(self.high), math.log(value)
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Return the positions and labels of the ticks."""
        if self.names:
            return [(i, name) for i, name in enumerate(self.names)]
        return _log_ticks(self.low, self.high) if self.log else self._even_ticks()

    def _even_ticks(self) -> list[tuple[float, str]]:
        if self.high <= self.low:
            return [(self.low, f"{self.low:g}")]
        most = (self.high - self.low) / LEAST
        size = 10 ** math.floor(math.log10(most))
        step = next(each * size for each in (5, 2, 1) if each * size <= most * (1 + 1e-9))
        if self.whole:
            step = max(1, round(step))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(i * step, f"{i * step:,.{digits}f}") for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    parts = (1,) if last - first > 2 else (1, 2, 5)
    found = [part * 10.0**power for power in range(first, last + 1) for part in parts]
    found = [each for each in found if low * 0.999 <= each <= high * 1.001] or [low, high]
    return [(each, _short(each)) for each in found[:: 1 + len(found) // 7]]


def _short(value: float) -> str:
    """Write `1e-05` as `1e-5`: a tick has little room."""
    text = f"{value:g}" if 1 / FAR < abs(value) < FAR else f"{value:.0e}"
    return text.replace("e-0", "e-").replace("e+0", "e")


class Figure:
    """Axes, and marks in drawing order.

    Marks outside the axes are clipped; `edge` moves such points to the lower edge instead.
    """

    def __init__(
        self, x: Axis, y: Axis, width: int = 460, height: int = 280, describe: str = ""
    ) -> None:
        self.x, self.y, self.width, self.height, self.describe = x, y, width, height, describe
        self.left, self.bottom = LEFT, BOTTOM
        if y.names:
            self.left = min(round(width * 0.45), 16 + round(LETTER * max(map(len, y.names))))
        room = (width - self.left - RIGHT) / max(1, len(x.names))
        self._slanted = bool(x.names) and max(map(len, x.names)) * LETTER + 8 > room
        if self._slanted:
            self.bottom += min(60, round(3.6 * max(map(len, x.names))))
        self._marks: list[str] = []
        self._untitled: dict[str, list[str]] = {}  # shapes by class

    def at(self, x: Number, y: Number) -> tuple[float, float]:
        """Return a point in units of the plot area, whose origin is its upper left corner."""
        across, down = self._inner()
        return round(self.x.place(x) * across, 1), round((1 - self.y.place(y)) * down, 1)

    def _inner(self) -> tuple[int, int]:
        return self.width - self.left - RIGHT, self.height - TOP - self.bottom

    def edge(self, y: Number) -> float:
        """Return `y`, at least the lower end of the axis."""
        return max(y, self.y.low)

    def point(self, x: Number, y: Number, kind: str, mark: str = "dot", title: str = "") -> None:
        """Draw a mark. Marks of a kind without title are merged into one much smaller path."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        across, down = self.at(x, y)
        shape = MARKS[mark].format(x=f"{across:g}", y=f"{down:g}")
        if title:
            self._marks.append(f"<path class='{mark} {kind}' d='{shape}'>{_title(title)}</path>")
        else:
            self._untitled.setdefault(f"{mark} {kind}", []).append(shape)

    def line(
        self,
        places: Sequence[tuple[Number, Number]],
        kind: str,
        title: str = "",
        step: bool = False,
    ) -> None:
        """Draw a line through points; with `step` it stays level up to the next one."""
        path = ""
        for i, (x, y) in enumerate(places):
            across, down = self.at(x, y)
            path += f"M{across:g} {down:g}" if i == 0 else f"H{across:g}" if step else ""
            path += "" if i == 0 else f"V{down:g}" if step else f"L{across:g} {down:g}"
        if path:
            self._marks.append(f"<path class='line {kind}' d='{path}'>{_title(title)}</path>")

    def level(self, y: Number, kind: str, title: str = "") -> None:
        """Draw a horizontal line across the figure."""
        down = self.at(0, y)[1]
        mark = f"<path class='line {kind}' d='M0 {down:g}H{self._inner()[0]}'>{_title(title)}"
        self._marks.append(f"{mark}</path>")

    def upright(self, x: Number, kind: str) -> None:
        """Draw a vertical line across the figure."""
        across, down = self.at(x, 0)[0], self._inner()[1]
        self._marks.append(f"<path class='line {kind}' d='M{across:g} 0V{down}'></path>")

    def interval(self, low: Number, high: Number, y: Number, kind: str, title: str = "") -> None:
        """Draw an error bar between two x."""
        (first, down), (last, _) = self.at(low, y), self.at(high, y)
        path = f"M{first:g} {down - 4:g}v8m0-4H{last:g}m0-4v8"
        self._marks.append(f"<path class='line {kind}' d='{path}'>{_title(title)}</path>")

    def bar(self, length: Number, y: Number, kind: str, title: str = "") -> None:
        """Draw a bar from the left, half as high as the row."""
        across, down = self.at(length, y)
        high = 0.5 * self._inner()[1] / max(1, len(self.y.names))
        self._marks.append(
            f"<rect class='bar {kind}' x='0' y='{down - high / 2:.1f}' width='{max(0, across):g}' "
            f"height='{high:.1f}'>{_title(title)}</rect>"
        )

    def svg(self) -> str:
        """Return the figure as an SVG element."""
        across, down = self._inner()
        below = self.height - TOP - 4
        untitled = (
            f"<path class='{kind}' d='{''.join(shapes)}'/>"
            for kind, shapes in self._untitled.items()
        )
        marks = "".join((*untitled, *self._marks))
        said = escape(self.describe or f"{self.y.label} against {self.x.label}", quote=True)
        return (
            f"<svg viewBox='0 0 {self.width} {self.height}' role='img' aria-label='{said}'>"
            f"<g transform='translate({self.left} {TOP})'>"
            + "".join(self._grid(across, down))
            # An inner SVG clips its content.
            + f"<svg width='{across}' height='{down}'>{marks}</svg>"
            + f"<text class='label' x='{across / 2:g}' y='{below}' text-anchor='middle'>"
            f"{escape(self.x.label)}</text>"
            f"<text class='label' transform='translate({12 - self.left} {down / 2:g}) "
            f"rotate(-90)' text-anchor='middle'>{escape(self.y.label)}</text>"
            "</g></svg>"
        )

    def _grid(self, across: int, down: int) -> Iterator[str]:
        for value, words in self.y.ticks():
            y = round((1 - self.y.place(value)) * down, 1)
            if not self.y.names:
                yield f"<path class='grid' d='M0 {y:g}H{across}'/>"
            room = round((self.left - 8) / LETTER)
            yield f"<text x='-6' y='{y + 4:g}' text-anchor='end'>{_cut(words, room)}</text>"
        for value, words in self.x.ticks():
            x = round(self.x.place(value) * across, 1)
            if not self.x.names:
                yield f"<path class='grid' d='M{x:g} 0V{down}'/>"
            if self._slanted:
                turn = f"transform='translate({x + 3:g} {down + 12}) rotate(-35)'"
                yield f"<text {turn} text-anchor='end'>{_cut(words, 22)}</text>"
            else:
                where = f"x='{x:g}' y='{down + 15}'"
                yield f"<text {where} text-anchor='middle'>{escape(words)}</text>"
        yield f"<path class='axis' d='M0 0V{down}H{across}'/>"


def _cut(words: str, room: int) -> str:
    """Truncate text to `room` letters; the full text becomes its title."""
    if len(words) <= room:
        return escape(words)
    return f"{escape(words[: max(1, room - 1)])}…<title>{escape(words)}</title>"


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def spread(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, with a margin on both sides."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    room = margin * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room
