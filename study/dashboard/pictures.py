"""Pictures for the dashboard: SVG files in the style of the page, which it shows inline.

It shows small thumbnails, so each picture has a single figure.
"""

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from study.analysis import importance
from study.analysis.answer import confirmation_of
from study.dashboard.sheet import LINE, sheet, text
from study.page.classes import class_names
from study.page.compared import compared, differences_plot, scores_plot
from study.page.history import EVEN, history_key, history_plots
from study.page.settings import importance_plot, ranges_of
from study.page.style import COLOURS
from study.page.svg import Axis, Figure, spread
from study.page.trials import Trials, trials_of
from study.spec.identity import IDENTITY, Identity, is_search
from study.storage.records import Result, kept

WIDTH, HEIGHT = 400, 250
CELL, NAME = 48, 72  # of a confusion matrix: width of a cell, and of the row labels
MANY = 20  # classes, beyond which cells have no room for numbers
IMPORTANCE_SECONDS = 60.0  # of training, below which importance is left to the report
DARK = 0.5  # share of a row above which its number is white


def of_trial(trial: FrozenTrial, result: Result, identity: Identity) -> dict[str, str]:
    """Return by file name a trial's scores, losses and confusion matrix, if it has them."""
    metric = identity.get("metric", "score")
    title = f"Trial {trial.number}: {metric} {result.score or 0.0:.4f}"
    scores = [score for _, score in sorted(trial.intermediate_values.items())]
    pictures = {"score.svg": sheet(title, curves({metric: scores}, metric))}
    losses = {name: curve for name, curve in result.curves.items() if "loss" in name}
    if losses:
        key = [
            (f"c{place % COLOURS}", name.replace("_", " "), "━")
            for place, name in enumerate(losses)
        ]
        title = f"Trial {trial.number}: losses"
        pictures["losses.svg"] = sheet(title, curves(losses, "loss"), key)
    if counts := result.confusion:
        pictures["confusion.svg"] = sheet(
            f"Trial {trial.number}: {sum(map(sum, counts)):,} cases in its last epoch",
            confusion(counts, class_names(identity, len(counts))),
            note="Rows: true class; columns: predicted class.",
        )
    return pictures


def curves(found: Mapping[str, Sequence[float]], label: str) -> str:
    """Plot values by epoch."""
    longest = max(map(len, found.values()))
    x = Axis("epoch", 1, max(2, longest), whole=True)
    y = Axis(label, *spread(value for curve in found.values() for value in curve))
    plot = Figure(x, y, WIDTH, HEIGHT)
    for place, curve in enumerate(found.values()):
        plot.line([*enumerate(curve, 1)], f"c{place % COLOURS} strong")
    return plot.svg()


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Draw a confusion matrix, shaded by shares of the rows."""
    numbered = len(names) <= MANY
    size = CELL if numbered else max(6, MANY * CELL // len(names))
    parts = []
    for down, row in enumerate(counts):
        y, total = LINE + down * size, max(1, sum(row))
        parts.append(text(NAME - 8, y + size / 2 + 4, names[down][:12], "end"))
        parts.append(text(NAME + (down + 0.5) * size, LINE - 7, names[down][:7], "middle"))
        for across, count in enumerate(row):
            x, share = NAME + across * size, count / total
            parts.append(
                f"<rect x='{x}' y='{y}' width='{size}' height='{size}' class='found' "
                f"style='fill:currentColor;fill-opacity:{0.85 * share:.2f}'/>"
            )
            if numbered:
                colour = "fill:#fff" if share > DARK else ""
                parts.append(text(x + size / 2, y + size / 2 + 4, str(count), "middle", colour))
    wide, high = NAME + size * len(names) + 8, LINE + size * len(names) + 8
    return f"<svg viewBox='0 0 {wide} {high}'>{''.join(parts)}</svg>"


def of_study(study: optuna.Study, studies: Sequence[optuna.Study]) -> dict[str, str]:
    """Return by file name the history, importance and confirmation of a search, as far as they
    exist, or the results of a comparison."""
    if not is_search(kept(study, IDENTITY)):
        return _compared(study, studies)
    pictures, trials = dict[str, str](), trials_of(study)
    if trials.complete:
        _, by_epochs = history_plots(trials)  # the dashboard itself shows the other one
        pictures["history.svg"] = sheet("The search", by_epochs, history_key(trials), EVEN)
    if _is_worth_it(trials) and (ranges := ranges_of(trials)):
        note = f"fANOVA: median and range of {importance.RESAMPLES} draws of the complete trials."
        plot = importance_plot(ranges)
        pictures["importance.svg"] = sheet("Which settings mattered", plot, note=note)
    if again := confirmation_of(study.study_name, studies):
        pictures |= _compared(again, studies)
    return pictures


def _is_worth_it(trials: Trials) -> bool:
    """Whether importance, at about 50 ms per complete trial, is cheap compared with training."""
    seconds = sum(row.result.seconds for row in trials.complete if row.result)
    return seconds >= max(IMPORTANCE_SECONDS, len(trials.complete))


def _compared(study: optuna.Study, studies: Sequence[optuna.Study]) -> dict[str, str]:
    """Return the scores of every seed, and the differences to the control."""
    of = compared(study, studies)
    if not of.trained:
        return {}
    pictures = {"seeds.svg": sheet("Every seed", scores_plot(of), note="Bars: means.")}
    if any(math.isfinite(each.low) for each in of.verdicts.values()):
        pictures["differences.svg"] = sheet(
            f"Points against {of.control}", differences_plot(of), note="Lines: 95% intervals."
        )
    return pictures
