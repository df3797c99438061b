"""History of a search: scores by trial and by epochs spent, and learning curves."""

from collections.abc import Sequence
from datetime import datetime

from study.analysis.expense import epochs_trained
from study.page.markup import Html, figure, key, paragraph, section, within
from study.page.style import COLOURS
from study.page.svg import Axis, Figure, spread
from study.page.trials import MANY, Row, Trials, described, varied_settings

NAMED = ("c0", "c2", "c3", "c4", "c6")
"""Colours of the best curves, all different from that of the hand-made settings."""
EVEN = "The axis is zoomed to the good trials; those below it are drawn at its lower edge."


def history(trials: Trials) -> Html:
    """Return scores by trial and by epochs spent, with the best so far."""
    entries = [key(*each) for each in history_key(trials)]
    return section(
        "History of the search",
        within("figures", [figure(svg) for svg in history_plots(trials)]),
        Html(f"<ul class='key'>{''.join(entries)}</ul>"),
        paragraph(f"{score_in_words(trials)} {EVEN}", "note"),
    )


def history_plots(trials: Trials) -> list[str]:
    """Return the two plots of the history."""
    by_number: list[tuple[float, Row]] = [(row.number, row) for row in trials.rows]
    total, by_epochs = 0, []
    for row in sorted(trials.rows, key=_ended):
        total += epochs_trained(row.trial)
        by_epochs.append((float(total), row))
    low, high = trials.worth_seeing
    figures = []
    for places, label in ((by_number, "trial"), (by_epochs, "epochs trained so far")):
        first, last = spread((x for x, _ in places), 0.02)
        plot = Figure(Axis(label, first, last, whole=True), Axis(trials.metric, low, high))
        plot.line(best_so_far(places, last), "ink", "best so far", step=True)
        if trials.hand is not None:
            plot.level(trials.hand.score or 0.0, "hand dashed strong", trials.hand.title)
        scores(plot, places, not trials.many)
        figures.append(plot.svg())
    return figures


def _ended(row: Row) -> tuple[datetime, int]:
    return row.trial.datetime_complete or datetime.max, row.number


def best_so_far(places: Sequence[tuple[float, Row]], last: float) -> list[tuple[float, float]]:
    """Return the points where the best complete score improved, up to the end of the axis."""
    found: list[tuple[float, float]] = []
    for x, row in places:
        if row.complete and row.score is not None and (not found or row.score > found[-1][1]):
            found.append((x, row.score))
    return [*found, (last, found[-1][1])] if found else []


def scores(plot: Figure, places: Sequence[tuple[float, Row]], titled: bool) -> None:
    """Draw a mark for each trial with a score; complete ones are drawn last, on top."""
    for x, row in sorted(places, key=lambda each: each[1].complete):
        if row.score is not None:
            plot.point(x, plot.edge(row.score), row.kind, row.mark, row.title if titled else "")


def history_key(trials: Trials) -> list[tuple[str, str, str]]:
    """Return the legend of the history: kind, text and symbol."""
    kinds = {(row.kind, row.mark) for row in trials.rows}
    entries = [("ink", "best so far", "━")]
    if ("found", "dot") in kinds:
        entries.append(("found", "found, complete", "●"))
    if trials.hand is not None:
        entries.append(("hand", "hand-made", "◆"))
        entries.append(("hand", f"best hand-made ({trials.hand.origin})", "┅"))
    if any(kind == "grey" for kind, _ in kinds):
        entries.append(("grey", "pruned, interrupted or running (score so far)", "●"))
    if any(kind == "bad" for kind, _ in kinds):
        entries.append(("bad", "diverged or failed", "✕"))
    return entries


def score_in_words(trials: Trials) -> str:
    """Explain what a score is."""
    if "scored_epochs" not in trials.identity:
        return "A score is that of a trial's best epoch."
    last = trials.identity["scored_epochs"]
    return f"A score is the mean of a trial's last {last} epochs."


def curves(trials: Trials) -> Html:
    """Return the learning curves of all trials, and the losses of the best."""
    figures = [score_curves(trials)]
    if (losses := loss_curves(trials.complete[0])) is not None:
        figures.append(losses)
    return section("Learning curves", within("figures", figures))


def score_curves(trials: Trials) -> Html:
    """Plot the scores of all trials; the best ones and the best hand-made one are labelled."""
    named = trials.complete[: len(NAMED)]
    if trials.hand is not None and trials.hand not in named:
        named = [*named, trials.hand]
    shown = [score for row in named for score in row.curve]
    top = [score for row in trials.rows if not row.gone for score in row.curve]
    low, high = spread((*shown, max(top, default=1.0)))
    x = Axis("epoch", 1, max(2, trials.epochs), whole=True)
    plot = Figure(x, Axis(trials.metric, low, high), height=320)
    others = [row for row in trials.rows if row.curve and row not in named]
    each = 1 + len(others) // MANY
    for row in sorted(others[::each], key=lambda row: row.complete):
        plot.line(_by_epoch(row.curve), f"{'rule' if row.complete else 'grey'} thin", row.title)
    entries, names = [], varied_settings(trials)
    for place, row in enumerate(named):
        kind = "hand dashed" if row is trials.hand else NAMED[place]
        words = f"trial {row.number} ({row.origin or f'{row.score:.4f}'})"
        plot.line(_by_epoch(row.curve), f"{kind} strong", f"{row.title}; {described(row, names)}")
        entries.append(key(kind.split()[0], words, "┅" if row is trials.hand else "━"))
    entries.append(key("rule", "other complete trials", "─"))
    if any(not row.complete and row.curve for row in trials.rows):
        entries.append(key("grey", "pruned and other incomplete trials", "─"))
    title = f"{trials.metric.capitalize()} by epoch"
    note = f" Of the other trials, one in {each} is drawn." if each > 1 else ""
    return figure(plot.svg(), title, f"Hover over a curve for its settings.{note}", entries)


def loss_curves(best: Row) -> Html | None:
    """Plot the losses of the best trial, if the pipeline has any."""
    found = {
        name: curve
        for name, curve in (best.result.curves if best.result else {}).items()
        if "loss" in name and len(curve) > 1
    }
    if not found:
        return None
    low, high = spread(value for curve in found.values() for value in curve)
    longest = max(map(len, found.values()))
    plot = Figure(Axis("epoch", 1, longest, whole=True), Axis("loss", low, high), height=320)
    entries = []
    for place, (name, curve) in enumerate(found.items()):
        plot.line(_by_epoch(curve), f"c{place % COLOURS} strong", name)
        entries.append(key(f"c{place % COLOURS}", name.replace("_", " "), "━"))
    title = f"Losses of the best trial ({best.number})"
    rising = "A validation loss that rises while the training loss falls indicates overfitting."
    return figure(plot.svg(), title, rising if len(found) > 1 else "", entries)


def _by_epoch(curve: Sequence[float]) -> list[tuple[int, float]]:
    return list(enumerate(curve, 1))
