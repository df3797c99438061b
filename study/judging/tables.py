"""Print the results of study.judge; each function also returns its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
from numpy.random import Generator
from numpy.typing import NDArray
from rich.table import Table

from fer.output import say
from study.analysis.tables import own_console
from study.judging.choosing import Choosing
from study.judging.curves import LEAST, TOP, Curves, stopped_early
from study.judging.rules import RULES
from study.judging.sampling import SHOWN, regrets, worlds
from study.judging.stopping import judge, ranks
from study.judging.surrogate import held_out
from study.spec.space import described_as
from study.storage.records import settings_of
from study.words import counted

WIDE = 110  # columns of a terminal that shows the whole table of rules
UNKNOWN_NOISE = 0.01
"""Standard deviation of a score over seeds if no settings were trained with several seeds."""


def say_what_there_is(studies: Sequence[optuna.Study], curves: Curves) -> dict[str, Any]:
    """Print the number of complete curves, and how far they are biased by pruning."""

    count, epochs = curves.scores.shape
    counts = stopped_early(studies)
    names = ", ".join(study.study_name for study in studies)
    say(f"{counted(count, 'complete curve')} of {epochs} epochs from {names}")
    if counts["stopped"]:
        say(
            f"{counted(counts['stopped'], 'trial')} pruned, {counts['taken_up']} of them resumed; "
            f"{counts['of_the_best']} of these reached the {TOP} best. If many do, the pruner "
            "stops too early. The final scores of the others are unknown, so the tables cover "
            "only trials that survived, and every rule looks better than it is"
        )
    return {"curves": count, "epochs": epochs, **counts}


def say_rules(curves: Curves, orders: int, seed: int) -> dict[str, Any]:
    """Print the table of the rules."""

    judged = judge(curves, RULES, orders, seed)
    console = own_console()
    columns = ["epochs used", "best stopped", f"of the {TOP} best", "regret"]
    if is_wide := console.width >= WIDE:
        columns += ["at a quarter", "at half"]
    table = _table(f"rules, over {orders} orders", *columns)
    for name, each in judged.items():
        mean, error = asdict(each.mean), asdict(each.error)
        shares = [f"{100 * mean[key]:.0f} ± {100 * error[key]:.0f}%" for key in list(mean)[:3]]
        points = [f"{mean[key]:.2f} ± {error[key]:.2f}" for key in list(mean)[3:]]
        table.add_row(name, *[*shares, *points][: len(columns)])
    console.print(table)
    parts = "when a quarter or half of all epochs is spent"
    say(
        "regret: how far the best complete trial is behind the best of all, in points, with all "
        f"trials{f', and {parts}' if is_wide else f' (in {WIDE} columns also {parts})'}; "
        "±: one standard error over random draws of the settings"
    )
    return {
        "rules": {
            name: {"mean": asdict(each.mean), "error": asdict(each.error)}
            for name, each in judged.items()
        }
    }


def say_epochs(curves: Curves, generator: Generator) -> dict[str, Any]:
    """Print how well early scores predict final ones, by kind of curve if there are several."""
    found: dict[str, Any] = {}
    table = _table(
        "rank correlation with the final score", "epoch", "all trials", "the better half"
    )
    for kind in sorted(set(curves.kinds), key=str):
        which = np.array([i for i, each in enumerate(curves.kinds) if each == kind])
        if len(which) < LEAST:
            continue
        label = ", ".join(map(str, kind)) if any(kind) else "all"
        rows = ranks(curves.some(which), generator)
        for row in rows:
            cells = (
                f"{middle:.2f} [{low:.2f}, {high:.2f}]"
                for low, middle, high in (row.everyone, row.better_half)
            )
            table.add_row(label, str(row.epoch), *cells)
        found[label] = [asdict(row) for row in rows]
    if not found:
        say(f"no rank correlations: no kind of curve has {LEAST} complete trials")
        return {"ranks": found}
    own_console().print(table)
    say("Spearman, mean of the last three epochs against the final score; 95% intervals")
    return {"ranks": found}


def say_score(found: Choosing) -> dict[str, Any]:
    """Print the bias of the best epoch."""
    line = (
        f"the best epoch of a trial is {found.gain:.2f} ± {found.gain_error:.2f} points above the "
        f"mean of its last three, {found.gain_of_best:.2f} in the ten best trials"
    )
    if found.repeated:
        line += (
            f"; its standard deviation over seeds ({found.repeated} settings with several) is "
            f"{found.noise_of_best:.2f} points, that of the mean {found.noise_of_last:.2f}"
        )
    say(line)
    return {"score": {key: value for key, value in asdict(found).items() if value == value}}


def say_samplers(
    curves: Curves,
    definition: Mapping[str, Any],
    noise: float,
    samplers: Sequence[str],
    count: int,
    seed: int,
    generator: Generator,
) -> dict[str, Any]:
    """Print the table of the samplers, over `count` worlds of the space stored in a study.

    Searches use seeds from `seed` on. `noise` is the standard deviation of a score over seeds in
    points, NaN if unknown.
    """
    settings = [settings_of(trial) for trial in curves.trials]
    space = described_as(definition, settings[0])
    told = held_out(settings, curves.final, space, generator)
    say(
        f"model of the score: error {told.error:.1f} points on held-out settings, whose "
        f"standard deviation is {told.deviation:.1f}; rank correlation {told.rank:.2f}"
    )
    noise = UNKNOWN_NOISE if np.isnan(noise) else noise / 100
    rows: dict[str, list[list[float]]] = {name: [] for name in samplers}
    parts = (settings, curves.final, curves.by_hand, space, noise, count, generator)
    for number, world in enumerate(worlds(*parts)):
        found = regrets(world, samplers, seed + number)
        for name in samplers:
            rows[name].append(found[name])
        say(f"       model {number + 1} of {count}")
    first = samplers[0]
    against = f"minus {first}'s"
    table = _table("samplers", *(f"regret at {trials}" for trials in SHOWN), against)
    for sampler, each in rows.items():
        numbers = np.array(each)
        gaps = numbers[:, -1] - np.array(rows[first])[:, -1]
        cells = (_with_error(column) for column in numbers.T)
        table.add_row(sampler, *cells, _with_error(gaps) if sampler != first else "")
    own_console().print(table)
    return {"model": asdict(told), "samplers": rows}


def _with_error(values: NDArray[np.float64]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def _table(*columns: str) -> Table:
    return Table(*columns, header_style="bold")
