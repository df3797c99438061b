"""The best configuration of a study, or all trials: `python -m study.export --out best.yaml`."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from fer import command
from fer.errors import UserError
from fer.files import write_file
from study.options import Existing
from study.words import counted

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.storage.records import Result


TABLES = (".csv", ".json")


class Options(Existing):
    """Write the settings of a study's best trial, with where they come from, for fer.train; or
    with --table all its trials."""

    trial: int | None = None
    """Number of the trial; by default the best complete one."""
    out: Path | None = None
    """File to write the settings to; by default best.yaml, and with --table none."""
    table: Path | None = None
    """.csv or .json file to write a row a trial to: how it ended, its scores and settings."""

    @model_validator(mode="after")
    def _a_table(self) -> Self:
        if self.table is not None and self.table.suffix not in TABLES:
            raise ValueError(f"--table must end in {' or '.join(TABLES)}, got {self.table}")
        if self.table is not None and not self.table.parent.is_dir():
            raise ValueError(f"--table must be in an existing folder, got {self.table}")
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
    """Write a row a trial. Raises UserError if there is none."""
    from study.analysis.trial_table import as_csv, as_json, trial_rows

    rows = trial_rows(study)
    if not rows:
        raise UserError(f"study {study.study_name!r} has no trial to put into {out}")
    write_file(out, as_json(rows) if out.suffix == ".json" else as_csv(rows))
    print(f"{out}: {counted(len(rows), 'trial')} of study {study.study_name}")


def write_best(study: "optuna.Study", options: Options) -> None:
    """Write the settings of the best trial, or of the one that is asked for."""
    import platform
    from importlib.metadata import version

    import yaml

    from study.spec.faces import in_this_version
    from study.spec.identity import IDENTITY
    from study.storage import studies
    from study.storage.records import finished, kept, settings_of

    out = options.out or Path("best.yaml")
    best, result = best_of(study, options.trial, studies.hidden(options.storage))
    identity = kept(study, IDENTITY)
    if identity is None:
        raise UserError(f"study {study.study_name!r} was not begun by study.run")
    settings = in_this_version(settings_of(best), identity, best.number)
    metric = identity.get("metric", "validation accuracy")
    of_data = ("data", "data_sha256", "classes", "split", "split_seed", "subset", "holdout")
    origins = (*of_data, "kernels", "device", "code", "versions")
    provenance = {
        "study": study.study_name,
        "storage": studies.hidden(options.storage),
        "trial": best.number,
        "trial_state": best.state.name.lower(),
        metric.replace(" ", "_"): result.score,
        **{f"validation_{name}": value for name, value in result.values.items()},
        "best_epoch": result.epoch,
        "best_epoch_score": result.best,
        "chosen_among": len(finished(study)),
        **{key: identity.get(key) for key in origins},
        "exported_with": {"fer-study": version("fer-study"), "python": platform.python_version()},
    }
    content = {"config": settings, "provenance": provenance}
    write_file(out, yaml.safe_dump(content, sort_keys=False))
    print(
        f"{out}: trial {best.number} of study {study.study_name}, {metric} "
        f"{result.score:.4f} (best: {result.best:.4f} after epoch {result.epoch})"
    )


def best_of(study: "optuna.Study", number: int | None, place: str) -> "tuple[FrozenTrial, Result]":
    """The best complete trial of a study in the storage `place`, or its finished trial `number`.

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
        raise UserError(f"trial {best.number} {ending(best)}: it has no score to go by")
    return best, result


if __name__ == "__main__":
    command.run(main)
