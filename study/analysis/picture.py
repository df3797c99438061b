"""A comparison as a picture: its table, with every seed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer.files import write_figure
from study.analysis.effects import Effect
from study.analysis.verdicts import Verdict, gains

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"better": "tab:green", "worse": "tab:red"}
OTHERS = "tab:blue"


def save_plot(
    found: Sequence[Effect], title: str, control: str, verdicts: Mapping[str, Verdict], path: Path
) -> None:
    """Plot the differences to the control in points with the intervals of the table, and every
    seed as a dot; without verdicts, plot the scores."""
    from matplotlib.figure import Figure

    trained = [effect for effect in found if effect.scores]
    ours = next((effect for effect in trained if effect.label == control and verdicts), None)
    shown = [effect for effect in trained if effect is not ours]
    figure = Figure(figsize=(6.4, 1.3 + 0.34 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, effect in enumerate(shown):
        if ours is None:
            axes.plot(effect.scores, [row] * len(effect.scores), ".", color=OTHERS, alpha=0.4)
            axes.plot(effect.mean, row, "o", color=OTHERS)
        else:
            draw_difference(axes, row, gains(effect, ours), verdicts.get(effect.label))
    axes.set_yticks(range(len(shown)), [effect.label for effect in shown])
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="score")
    note = "dots: seeds; circles: means"
    if ours is not None:
        axes.axvline(0, color="tab:orange", linewidth=1)
        axes.set_xlabel(f"points against {control} ({100 * ours.mean:.2f})")
        note = "circles and bars: difference and its 95% interval, as in the table; dots: seeds"
    axes.set_title(f"{title}\n{note}", fontsize=8)
    axes.grid(alpha=0.3, axis="x")
    write_figure(figure, path)


def draw_difference(
    axes: "Axes", row: int, of_seeds: Sequence[float], verdict: Verdict | None
) -> None:
    """Draw a row: the differences of the seeds, their mean, and its interval if there is one."""
    colour = COLOURS.get(verdict.word, OTHERS) if verdict else OTHERS
    axes.plot(of_seeds, [row] * len(of_seeds), ".", color=colour, alpha=0.4)
    if verdict is None or math.isnan(verdict.mean):
        return
    axes.plot(verdict.mean, row, "o", color=colour)
    if math.isfinite(verdict.low):
        ends = [verdict.low, verdict.high]
        axes.plot(ends, [row, row], "|-", color=colour, linewidth=1.5, markersize=8)
