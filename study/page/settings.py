"""Which settings mattered: their importance with its range, and a panel for each."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from study.analysis import importance
from study.analysis.importance import Range
from study.page.markup import Html, figure, key, paragraph, section, shown, within
from study.page.style import COLOURS
from study.page.svg import Axis, Figure
from study.page.trials import Trials
from study.spec.space import condition_of

GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly
WIDTH, HEIGHT = 290, 205


@dataclass
class Panel:
    """A setting and its parameters: one, or one for each choice of another setting."""

    setting: str
    ranges: list[Any] = field(default_factory=list)  # distributions of the parameters
    values: dict[int, Any] = field(default_factory=dict)  # by trial number
    choices: dict[int, str] = field(default_factory=dict)  # of the other setting, by trial number


def ranges_of(trials: Trials) -> dict[str, Range]:
    """Return the importance of each setting; empty if unknown."""
    generator = np.random.default_rng(trials.identity["seed"])
    return importance.importances([row.trial for row in trials.complete], trials.space, generator)


def settings_section(trials: Trials) -> Html:
    """Return the importance of the settings, and a plot of score by value for each, most important
    first."""
    ranges = ranges_of(trials)
    found = [panel for panel in panels(trials) if len({*map(repr, panel.values.values())}) > 1]
    order = list(ranges)
    found.sort(key=lambda panel: order.index(panel.setting) if panel.setting in order else 99)
    drawn = [draw(panel, trials, ranges) for panel in found]
    mattered = (
        figure(importance_plot(ranges), "", importance.HOW)
        if ranges
        else paragraph(importance.TOO_FEW)
    )
    note = paragraph(
        "Score by value; in percent, the share of the variance that the setting explains. "
        "Bars: medians of the complete trials. Symbols as in the history of the search; "
        "if a setting has a range for each choice of another one, colours show that choice.",
        "note",
    )
    return Html(
        section("Which settings mattered", mattered)
        + section("Each setting", note, within("figures panels", drawn))
    )


def panels(trials: Trials) -> list[Panel]:
    """Return a panel for each setting of the space, in order."""
    found: dict[str, Panel] = {}
    for name in trials.space:
        for row in trials.rows:
            within_range = row.trial.distributions.get(name)
            if within_range is None:
                continue
            only = condition_of(name, trials.space, row.settings)
            panel = found.setdefault(only.get("setting", name), Panel(only.get("setting", name)))
            if panel.ranges and type(within_range) is not type(panel.ranges[0]):
                continue  # added by another program
            if within_range not in panel.ranges:
                panel.ranges.append(within_range)
            panel.values[row.number] = row.trial.params[name]
            if only:
                panel.choices[row.number] = shown(only["value"])
    return list(found.values())


def draw(panel: Panel, trials: Trials, ranges: Mapping[str, Range]) -> Html:
    """Plot the score by the value of a setting."""
    names = axis_names(panel)
    x = Axis(panel.setting, names=names) if names else numeric_axis(panel)
    plot = Figure(x, Axis(trials.metric, *trials.worth_seeing), WIDTH, HEIGHT)
    choices = dict.fromkeys(panel.choices.values())
    colours = {each: f"c{i % COLOURS}" for i, each in enumerate(choices)}
    if len(colours) < 2:
        colours = {}
    rows = [row for row in trials.rows if row.number in panel.values and row.score is not None]
    for row in sorted(rows, key=lambda row: row.complete):
        value, choice = panel.values[row.number], panel.choices.get(row.number, "")
        kind = colours.get(choice, row.kind) if row.complete else row.kind
        jitter = (row.number * GOLDEN % 1 - 0.5) * 0.5
        across = names.index(shown(value)) + jitter if names else value
        of = f" ({choice})" if choice else ""
        title = "" if trials.many else f"{panel.setting} {shown(value)}{of}; {row.title}"
        plot.point(across, plot.edge(row.score or 0.0), kind, row.mark, title)
    for place, name in enumerate(names):
        scores = [
            row.score or 0.0
            for row in rows
            if row.complete and shown(panel.values[row.number]) == name
        ]
        if scores:
            middle = statistics.median(scores)
            words = f"{name}: median {middle:.4f} of {len(scores)}"
            plot.point(place, plot.edge(middle), "ink", "dash", words)
    share = f" · {ranges[panel.setting][1]:.0%}" if panel.setting in ranges else ""
    entries = [key(colour, choice) for choice, colour in colours.items()]
    return figure(plot.svg(), f"{panel.setting}{share}", "", entries)


def axis_names(panel: Panel) -> list[str]:
    """Return the labels of a categorical axis; empty if the setting is numeric."""
    names: dict[str, None] = {}
    for within_range in panel.ranges:
        if not isinstance(within_range, CategoricalDistribution):
            return []
        choices: Sequence[Any] = within_range.choices
        if all(type(each) in (int, float) for each in choices):
            choices = sorted(choices)
        names |= dict.fromkeys(map(shown, choices))
    return list(names)


def numeric_axis(panel: Panel) -> Axis:
    """Return an axis over all ranges of a setting, logarithmic if one of them is."""
    numbers = [
        each for each in panel.ranges if isinstance(each, FloatDistribution | IntDistribution)
    ]
    low, high = min(each.low for each in numbers), max(each.high for each in numbers)
    whole = all(isinstance(each, IntDistribution) for each in numbers)
    if any(each.log for each in numbers) and low > 0:
        room = (high / low) ** 0.03
        return Axis(panel.setting, low / room, high * room, log=True)
    room = 0.03 * (high - low)
    return Axis(panel.setting, low - room, high + room, whole=whole)


def importance_plot(ranges: dict[str, Range]) -> str:
    """Plot a bar for each setting, with its range."""
    names = [*reversed(ranges)]  # the axis starts at the bottom
    most = max(high for _, _, high in ranges.values())
    x = Axis("share of the variance of the score", 0, min(1.0, 1.05 * most) or 1.0)
    plot = Figure(x, Axis("", names=names), height=60 + 22 * len(names))
    for place, name in enumerate(names):
        low, middle, high = ranges[name]
        words = f"{name}: {middle:.0%}, from {low:.0%} to {high:.0%}"
        plot.bar(middle, place, "found", words)
        plot.interval(low, high, place, "ink", words)
    return plot.svg()
