"""A comparison: scores of each value, differences to the control, and learning curves."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from study.analysis import race
from study.analysis.comparison import effect_rows, in_brackets
from study.analysis.curves import seeds_table
from study.analysis.effects import Effect, effects, trials_of
from study.analysis.noise import noise_elsewhere
from study.analysis.removed import CHANCE_IN_WORDS, removed_table
from study.analysis.sections import common
from study.analysis.verdicts import Verdict, judge
from study.page.markup import Html, figure, key, paragraph, section, table, tagged, within
from study.page.style import COLOURS, HAND_MADE
from study.page.svg import Axis, Figure, spread
from study.spec import report
from study.spec.identity import IDENTITY, Identity, kind_of
from study.spec.spec import Kind
from study.storage.records import kept, scored


@dataclass(frozen=True)
class Compared:
    """The values of a comparison, with the verdict on each if there is a control."""

    identity: Identity
    found: Sequence[Effect]
    control: str
    verdicts: Mapping[str, Verdict]
    left_out: str = ""  # what a race dropped, in words

    @property
    def trained(self) -> list[Effect]:
        """The values with a score."""
        return [effect for effect in self.found if effect.scores]

    @property
    def metric(self) -> str:
        """Name of the score."""
        metric: str = self.identity.get("metric", "score")
        return metric


def compared(study: optuna.Study, studies: Sequence[optuna.Study]) -> Compared:
    """Return the values of a comparison or a confirmation, judged as by its command."""
    identity = kept(study, IDENTITY)
    found, rivals = effects(study, identity), tuple[str, ...]()
    variants = identity["space_definition"]["variants"]
    control = ""
    if kind_of(identity) == Kind.CONFIRM:
        control = next(iter(variants))
    elif kind_of(identity) == Kind.COMPARE:
        factor = report.FACTORS[identity["space"]]
        control, rivals = factor.control, factor.rivals
    verdicts = {}
    if control:
        verdicts = judge(found, control, rivals, noise_elsewhere(studies, identity))
    return Compared(identity, found, control, verdicts, race.in_words(study))


def title_of(identity: Identity) -> str:
    """Return a title that says what was compared."""
    definition = identity["space_definition"]
    match kind_of(identity):
        case Kind.CONFIRM:
            return f"The best of {definition['search']}, retrained"
        case Kind.COMPARE:
            title = report.FACTORS[identity["space"]].title
            return f"{title[:1].upper()}{title[1:]}, compared"
        case Kind.SEEDS:
            return f"{identity['space']}, several seeds"
    return "Each class removed in turn"


def comparison_parts(study: optuna.Study, studies: Sequence[optuna.Study]) -> list[Html]:
    """Return table, figures and curves of a comparison of any kind."""
    identity = kept(study, IDENTITY)
    match kind_of(identity):
        case Kind.REMOVED:
            return [removed_part(identity, studies)]
        case Kind.SEEDS:
            return seeds_parts(study, identity)
    of = compared(study, studies)
    return [values_section(of), section("Learning curves", curves_figure(study, of))]


def values_section(of: Compared, title: str = "Scores of each value") -> Html:
    """Return the table of values, with figures of their scores and differences."""
    note = f"{in_brackets(of.found, of.identity)}." if of.control else ""
    figures = [figure(scores_plot(of), f"{of.metric.capitalize()} of every seed", "Bars: means.")]
    if any(math.isfinite(each.low) for each in of.verdicts.values()):
        words = "95% intervals, as in the table. Right of the line: better."
        figures.append(figure(differences_plot(of), f"Difference to {of.control}", words))
    return section(
        title,
        table(effect_rows(of.found, "", of.control, of.verdicts), "values"),
        paragraph(of.left_out),
        paragraph(note[:1].upper() + note[1:], "note"),
        within("figures", figures),
    )


def height_for(rows: int) -> int:
    """Return the height of a figure with this many rows."""
    return 62 + 24 * rows


def scores_plot(of: Compared) -> str:
    """Plot one row per value: each seed as a dot, the mean as a bar."""
    shown = [*reversed(of.trained)]
    x = Axis(of.metric, *spread(score for effect in shown for score in effect.scores))
    names = [effect.label for effect in shown]
    plot = Figure(x, Axis("", names=names), height=height_for(len(names)))
    for row, effect in enumerate(shown):
        kind = "hand" if effect.label == of.control else "found"
        pairs = zip(effect.scores, effect.seeds, strict=True)
        for score, seed in pairs:
            plot.point(score, row, kind, title=f"seed {seed}: {score:.4f}")
        plot.point(effect.mean, row, "ink", "bolt", f"mean {effect.mean:.4f}")
    return plot.svg()


def differences_plot(of: Compared) -> str:
    """Plot the difference of each value to the control in points, with its interval."""
    shown = {
        effect.label: of.verdicts[effect.label]
        for effect in reversed(of.trained)
        if effect.label in of.verdicts and math.isfinite(of.verdicts[effect.label].low)
    }
    ends = [end for each in shown.values() for end in (each.low, each.high)]
    x = Axis(f"points against {of.control}", *spread((0.0, *ends)))
    plot = Figure(x, Axis("", names=[*shown]), height=height_for(len(shown)))
    plot.upright(0, "hand dashed")
    for row, (label, each) in enumerate(shown.items()):
        kind = {"better": "good", "worse": "bad"}.get(each.word, "rule")
        words = f"{label}: {each.points}, {each.word}"
        plot.interval(each.low, each.high, row, f"{kind} strong", words)
        plot.point(each.mean, row, kind, "diamond", words)
    return plot.svg()


def curves_figure(study: optuna.Study, of: Compared) -> Html:
    """Plot the scores of each value by epoch: the mean over its seeds, and every seed thin."""
    variants = of.identity["space_definition"]["variants"]
    plots, entries, every = [], [], []
    for label, changes in variants.items():
        seeds = [
            [trial.intermediate_values[n] for n in sorted(trial.intermediate_values)]
            for trial, _ in trials_of(study, changes)
        ]
        seeds = [curve for curve in seeds if curve and all(map(math.isfinite, curve))]
        if not seeds:
            continue
        mean = [statistics.fmean(each) for each in zip(*seeds, strict=False)]
        plots.append((label, seeds, mean))
        every += [score for curve in seeds for score in curve]
    if not plots:
        return Html()
    x = Axis("epoch", 1, max(2, of.identity["epochs"]), whole=True)
    plot = Figure(x, Axis(of.metric, *spread(every)), height=320)
    colours = colours_of(variants, of.control)
    for label, seeds, mean in plots:
        colour, dashed = colours[label]
        kind = f"{colour} dashed" if dashed else colour
        for curve in seeds:
            plot.line([*enumerate(curve, 1)], f"{kind} thin", label)
        plot.line([*enumerate(mean, 1)], f"{kind} strong", f"{label}: mean of {len(seeds)}")
        entries.append(key(colour, label, "┅" if dashed else "━"))
    return figure(plot.svg(), "", "Bold: means over seeds. Thin: every seed.", entries)


def colours_of(labels: Iterable[str], control: str) -> dict[str, tuple[str, bool]]:
    """Return a colour for the curves of each value, and whether they are dashed.

    The control has the colour of hand-made settings, as in the other figures; no other value has.
    """
    free = [f"c{number}" for number in range(COLOURS) if number != HAND_MADE]
    others = enumerate(label for label in labels if label != control)
    found = {label: (free[i % len(free)], i >= len(free)) for i, label in others}
    return {**({control: ("hand", False)} if control else {}), **found}


def seeds_parts(study: optuna.Study, identity: Identity) -> list[Html]:
    """Return one setting with several seeds, next to the report's numbers."""
    base = report.described(identity.get("base") or identity["space_definition"]["base"])
    named = base == identity["space"]
    reference: Mapping[int, float] = report.CURVES.get(base, {}) if named else {}
    rows: list[list[Any]] = [[bold(cell) for cell in row] for row in seeds_table(study, reference)]
    of = compared(study, ())
    trials = trials_of(study, {})
    ends = spread(
        (
            *(value for trial, _ in trials for value in trial.intermediate_values.values()),
            *reference.values(),
        )
    )
    x = Axis("epoch", 1, max(2, identity["epochs"]), whole=True)
    plot = Figure(x, Axis(of.metric, *ends), height=320)
    entries = []
    for place, (trial, _) in enumerate(trials):
        seed = f"seed {trial.params['seed']}"
        curve = sorted(trial.intermediate_values.items())
        plot.line(curve, f"c{place % COLOURS} strong", seed)
        entries.append(key(f"c{place % COLOURS}", seed, "━"))
    if reference:
        plot.line([*reference.items()], "ink dashed", "the report")
        entries.append(key("ink", "the report", "┅"))
    return [
        section("Scores of each seed", table(rows, "values")),
        section("Learning curves", figure(plot.svg(), "", "", entries)),
    ]


def bold(cell: str) -> Any:
    """Return a Markdown cell as HTML."""
    if not cell.startswith("**"):
        return cell
    strong, _, rest = cell[2:].partition("**")
    return Html(tagged("strong", strong) + tagged("span", rest))


def removed_part(identity: Identity, studies: Sequence[optuna.Study]) -> Html:
    """Return the table of all studies that leave out one class, under the same conditions."""
    alike = [
        (study, theirs)
        for study in studies
        if kind_of(theirs := kept(study, IDENTITY, {})) == Kind.REMOVED
        and common(theirs) == common(identity)
        and scored(study)
    ]
    return section(
        "What each class costs", table(removed_table(alike), "values"), paragraph(CHANCE_IN_WORDS)
    )
