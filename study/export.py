"""The best configuration of a study, or all trials: `python -m study.export --out best.yaml`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file
from fer.strict_json import finite
from study.options import Existing
from study.words import counted

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.spec.identity import Identity
    from study.storage.records import Result


TABLES = (".csv", ".json")


class Options(Existing):
    """Write the settings of a study's best trial and their provenance for fer.train, or with
    --table all its trials.

    For a confirmation (study.confirm), these are the settings with the highest mean over seeds.
    They are adjusted for the final model: the usual number of epochs (30; 4 on the demo faces) if
    the study had fewer, and all cores. The provenance holds the original values, the best epoch
    (median over seeds; used by fer.train --whole), and whether the settings are confirmed.
    """

    trial: int | None = None
    """Number of the trial; by default the best complete one, for a confirmation the winner."""
    out: Path | None = None
    """YAML file for the settings; default: best.yaml, or none with --table. An existing file is
    replaced."""
    table: Path | None = None
    """.csv or .json file for a table of all trials: ending, scores and settings. An existing file
    is replaced."""

    @model_validator(mode="after")
    def _files(self) -> Self:
        check_file("--out", self.out)
        check_file("--table", self.table, TABLES)
        return self


def main() -> None:
    options: Options = command.parse(Options, "study.export")

    import optuna

    from study.storage import studies

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = studies.load_study(options.storage, options.study, search=True)
    if options.table is None or options.out is not None:
        write_best(study, options)
    if options.table is not None:
        write_table(study, options.table)


def write_table(study: "optuna.Study", out: Path) -> None:
    """Write one row per trial. Raises UserError if there is none."""
    from study.analysis.trial_table import as_csv, as_json, trial_rows

    rows = trial_rows(study)
    if not rows:
        raise UserError(f"study {study.study_name!r} has no trial to write to {out}")
    write_file(out, as_json(rows) if out.suffix == ".json" else as_csv(rows))
    print(f"{out}: {counted(len(rows), 'trial')} of study {study.study_name}")


def write_best(study: "optuna.Study", options: Options) -> None:
    """Write the settings of the best trial, or of the requested one."""
    import platform
    from importlib.metadata import version

    import yaml

    from study.spec.faces import for_final_model, in_this_version
    from study.spec.identity import IDENTITY
    from study.storage import opening
    from study.storage.records import hardware_by_epoch, kept, settings_of

    out = options.out or Path("best.yaml")
    identity = kept(study, IDENTITY)
    if identity is None:
        raise UserError(f"study {study.study_name!r} was not created by study.run")
    trial, known, lines = chosen(study, identity, options)
    found = in_this_version(settings_of(trial), identity, trial.number)
    settings, otherwise = for_final_model(found, identity)
    of_data = ("data", "data_sha256", "classes", "split", "split_seed", "subset", "holdout")
    origins = (*of_data, "kernels", "device", "code", "versions")
    hardware = [*hardware_by_epoch(trial, identity).values()][-1]
    provenance = {
        "study": study.study_name,
        "storage": opening.hidden(options.storage),
        **known,
        **({"threads": found["threads"]} if "threads" in found else {}),
        **{key: (identity | hardware).get(key) for key in origins},
        "exported_with": {"fer-study": version("fer-study"), "python": platform.python_version()},
    }
    content = {"config": settings, "provenance": finite(provenance)}
    write_file(out, yaml.safe_dump(content, sort_keys=False))
    print(f"{out}: {lines[0]}")
    for line in (*lines[1:], otherwise):
        if line:
            print(command.printable(f"note: {line}"))


def chosen(
    study: "optuna.Study", identity: "Identity", options: Options
) -> "tuple[FrozenTrial, dict[str, Any], list[str]]":
    """Return the trial to export, the provenance of its settings, and lines to print."""
    from optuna.trial import TrialState

    from study.analysis.chosen import confirmation_for, winner_of
    from study.spec.identity import kind_of
    from study.spec.spec import Kind
    from study.storage.opening import hidden
    from study.storage.records import ending, finished
    from study.storage.studies import load_studies

    kind, metric = kind_of(identity), identity.get("metric", "validation accuracy")
    every = load_studies(options.storage)
    if kind == Kind.CONFIRM and options.trial is None:
        winner = winner_of(study, every)
        known = winner.provenance(metric, every)
        seeds = f"mean {metric} of {counted(len(winner.effect.seeds), 'seed')}"
        line = f"{winner.in_words}; {seeds} {winner.effect.mean:.4f} (study {study.study_name})"
        return winner.trials[0], known, [line]
    best, result = best_of(study, options.trial, hidden(options.storage))
    known = {
        "trial": best.number,
        "trial_state": best.state.name.lower(),
        metric.replace(" ", "_"): result.score,
        **{f"validation_{name}": value for name, value in result.values.items()},
        "best_epoch": result.epoch,
        "best_epoch_score": result.best,
        "epochs": result.epochs,
        "chosen_among": len(finished(study)),
    }
    line = (
        f"trial {best.number} of study {study.study_name}, {metric} "
        f"{result.score:.4f} (best: {result.best:.4f} after epoch {result.epoch})"
    )
    early = ""
    if best.state != TrialState.COMPLETE:
        when = f"after {result.epochs} of {counted(identity['epochs'], 'epoch')}"
        early = f"trial {best.number} stopped early ({ending(best)} {when}): score not final"
    if kind != Kind.SEARCH:
        return best, known, [line, early]
    confirmed, choice = confirmation_for(best, study, every)
    return best, {**known, **confirmed}, [line, early, choice]


def best_of(study: "optuna.Study", number: int | None, place: str) -> "tuple[FrozenTrial, Result]":
    """Return the best complete trial of a study in the storage `place`, or its finished trial
    `number`.

    Raises UserError if there is none, or it has no score.
    """
    from optuna.trial import TrialState

    from study.storage.records import ending, finished, result_of

    found = [(trial, result_of(trial)) for trial in finished(study)]
    trials = [(trial, result) for trial, result in found if result is not None]
    if number is not None:
        trials = [each for each in trials if each[0].number == number]
        missing = f"no finished trial {number}"
    else:
        trials = [each for each in trials if each[0].state == TrialState.COMPLETE]
        missing = "no complete trial"
    if not trials:
        raise UserError(f"{missing} in study {study.study_name!r} of {place}")
    best, result = max(trials, key=lambda each: each[1].score or 0.0)
    if result.score is None:
        raise UserError(f"trial {best.number} {ending(best)}: it has no score")
    return best, result


if __name__ == "__main__":
    command.run(main, lasting=True)
