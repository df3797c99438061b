"""Would another rule have decided better? `python -m study.judge --study NAME`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from fer import command
from fer.errors import UserError
from study.options import Count, Stored

if TYPE_CHECKING:
    import numpy as np
    import optuna
    from rich.table import Table

    from study.judging.curves import Curves

Sampler = Literal["tpe", "random", "tpe-grouped", "tpe-unit", "gp-unit"]


class Options(Stored):
    """Replay rules that stop trials early on the whole curves of stored studies.

    What each would have cost and lost, in many random orders: this program's pruners, Optuna's,
    and none. Best on studies without pruning: curves that were stopped are not known to their
    end, and those that were not are the better ones.
    """

    study: tuple[str, ...] = ()
    """Names of studies under the same conditions; by default the last search."""
    orders: Count = 60
    """Random orders of the trials."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the orders, and of everything else that is drawn."""
    samplers: tuple[Sampler, ...] = ()
    """Also let these samplers search a model of the score that is fitted to the trials; -unit
    ones see one rate for all optimizers, a place in its range. Minutes each."""
    worlds: Count = 10
    """Models that samplers are tried on, each fitted to the trials drawn with replacement."""
    out: Path | None = None
    """JSON file for all numbers."""

    @model_validator(mode="after")
    def _a_file(self) -> "Options":
        if self.out is not None and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise ValueError(f"--out must be a file in an existing folder, got {self.out}")
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.judge")

    import numpy as np
    import optuna

    from study.judging.curves import whole_curves
    from study.spec.identity import FORMAT, is_search
    from study.storage.studies import current, load_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = tuple(dict.fromkeys(options.study)) or (None,)
    studies = [load_study(options.storage, name, search=name is None) for name in names]
    identity = current(studies[-1].user_attrs) or {}
    if options.samplers and not is_search(identity):
        raise UserError(f"--samplers needs a search, {studies[-1].study_name!r} is none")
    # Studies of format 3 and before did not say by what curves differ in kind.
    old = identity.get("format", 1) < FORMAT
    curves_by = ["schedule"] if old else identity.get("pruner", {}).get("within", [])
    curves = whole_curves(studies, curves_by)
    generator = np.random.default_rng(options.seed)
    numbers = {
        **say_what_there_is(studies, curves),
        **judge_rules(curves, options.orders, options.seed),
        **judge_epochs(curves, generator),
        **judge_score(curves, studies),
    }
    if options.samplers:
        numbers |= judge_samplers(options, curves, studies, generator)
    if options.out is not None:
        try:
            options.out.write_text(json.dumps(numbers, indent=2), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {options.out}: {error.strerror}") from None
        print(f"saved  {command.printable(str(options.out))}")


def say_what_there_is(studies: "list[optuna.Study]", curves: "Curves") -> dict[str, Any]:
    """How many whole curves, and how far they can be believed."""
    from study.judging.curves import TOP, stopped_early
    from study.words import counted

    count, epochs = curves.scores.shape
    counts = stopped_early(studies)
    names = ", ".join(study.study_name for study in studies)
    print(f"{counted(count, 'whole curve')} of {epochs} epochs, of {names}")
    if counts["stopped"]:
        print(
            f"{counted(counts['stopped'], 'trial')} stopped early, {counts['taken_up']} of them "
            f"taken up again, of which {counts['of_the_best']} ended among the {TOP} best: the "
            "more do, the more the pruner stops too soon. How the others would have ended is not "
            "known: below are the survivors alone, and rules look better on them than they are"
        )
    return {"curves": count, "epochs": epochs, **counts}


def judge_rules(curves: "Curves", orders: int, seed: int) -> dict[str, Any]:
    """The table of the rules."""
    from dataclasses import asdict

    from study.analysis.tables import own_console
    from study.judging.curves import TOP
    from study.judging.rules import RULES
    from study.judging.stopping import judge

    judged = judge(curves, RULES, orders, seed)
    table = _table(
        f"rules, over {orders} orders",
        *("epochs used", "best stopped", f"of the {TOP} best", "regret"),
        *("at a quarter", "at half"),
    )
    for name, each in judged.items():
        mean, error = asdict(each.mean), asdict(each.error)
        shares = [f"{100 * mean[key]:.0f} ± {100 * error[key]:.0f}%" for key in list(mean)[:3]]
        points = [f"{mean[key]:.2f} ± {error[key]:.2f}" for key in list(mean)[3:]]
        table.add_row(name, *shares, *points)
    own_console().print(table)
    print(
        "regret: points by which the best trial that was trained whole is behind the best there "
        "is,\nwith all trials, and when a quarter or half of all epochs is spent; ±: one standard "
        "error\nover settings that might have been drawn"
    )
    return {
        "rules": {
            name: {"mean": asdict(each.mean), "error": asdict(each.error)}
            for name, each in judged.items()
        }
    }


def judge_epochs(curves: "Curves", generator: "np.random.Generator") -> dict[str, Any]:
    """The table of what early scores say, by kind of curve where there are several."""
    from dataclasses import asdict

    import numpy as np

    from study.analysis.tables import own_console
    from study.judging.curves import LEAST
    from study.judging.stopping import ranks

    found: dict[str, Any] = {}
    table = _table("rank correlation with the end", "epoch", "all trials", "the better half")
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
    own_console().print(table)
    print("Spearman's, of the mean of the last three epochs with the score; 95% intervals")
    return {"ranks": found}


def judge_score(curves: "Curves", studies: "list[optuna.Study]") -> dict[str, Any]:
    """What the best epoch flatters."""
    from dataclasses import asdict

    from study.judging.choosing import choosing

    found = choosing(curves, studies)
    line = (
        f"a trial's best epoch is {found.gain:.2f} ± {found.gain_error:.2f} points above the mean "
        f"of its last three, {found.gain_of_best:.2f} in the ten best trials"
    )
    if found.repeated:
        line += (
            f"; over seeds ({found.repeated} settings with several) it has a standard deviation "
            f"of {found.noise_of_best:.2f} points, the mean one of {found.noise_of_last:.2f}"
        )
    print(line)
    return {"score": {key: value for key, value in asdict(found).items() if value == value}}


def judge_samplers(
    options: Options,
    curves: "Curves",
    studies: "list[optuna.Study]",
    generator: "np.random.Generator",
) -> dict[str, Any]:
    """The table of the samplers."""
    from dataclasses import asdict

    import numpy as np

    from study.analysis.tables import own_console
    from study.judging.choosing import choosing
    from study.judging.sampling import SHOWN, regrets, worlds
    from study.judging.surrogate import held_out, space_of
    from study.spec.identity import IDENTITY
    from study.storage.records import settings_of

    settings = [settings_of(trial) for trial in curves.trials]
    space = space_of(studies[-1].user_attrs[IDENTITY]["space_definition"], settings[0])
    told = held_out(settings, curves.final, space, generator)
    print(
        f"model of the score: {told.error:.1f} points of error on settings left out, whose "
        f"standard deviation is {told.deviation:.1f}; rank correlation {told.rank:.2f}"
    )
    noise = choosing(curves, studies).noise_of_last
    noise = 0.01 if np.isnan(noise) else noise / 100
    rows: dict[str, list[list[float]]] = {name: [] for name in options.samplers}
    parts = (settings, curves.final, curves.by_hand, space, noise, options.worlds, generator)
    for number, world in enumerate(worlds(*parts)):
        found = regrets(world, options.samplers, options.seed + number)
        for name in options.samplers:
            rows[name].append(found[name])
        print(f"       model {number + 1} of {options.worlds}", flush=True)
    first = options.samplers[0]
    against = f"less {first}'s"
    table = _table("samplers", *(f"regret at {count}" for count in SHOWN), against)
    for sampler, each in rows.items():
        numbers = np.array(each)
        gaps = numbers[:, -1] - np.array(rows[first])[:, -1]
        cells = (_with_error(column) for column in numbers.T)
        table.add_row(sampler, *cells, _with_error(gaps) if sampler != first else "")
    own_console().print(table)
    return {"model": asdict(told), "samplers": rows}


def _with_error(values: "np.ndarray[Any, np.dtype[np.float64]]") -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():.2f} ± {error:.2f}"


def _table(*columns: str) -> "Table":
    from rich.table import Table

    return Table(*columns, header_style="bold")


if __name__ == "__main__":
    command.run(main)
