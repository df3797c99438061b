"""The best configuration of a study as a file: `python -m study.export --out best.yaml`."""

from pathlib import Path
from typing import TYPE_CHECKING

from fer import command
from fer.errors import UserError
from fer.files import write_file
from study.options import Existing

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from study.storage.records import Result


class Options(Existing):
    """Write the settings of a study's best trial, with where they come from, for fer.train."""

    trial: int | None = None
    """Number of the trial; by default the best complete one."""
    out: Path = Path("best.yaml")
    """File to write."""


def main() -> None:
    options: Options = command.parse(Options, "study.export")

    import platform
    from importlib.metadata import version

    import optuna
    import yaml

    from study.spec.faces import in_this_version
    from study.spec.identity import IDENTITY
    from study.storage import studies
    from study.storage.records import finished, kept, settings_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = studies.load_study(options.storage, options.study, search=True)
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
    write_file(options.out, yaml.safe_dump(content, sort_keys=False))
    print(
        f"{options.out}: trial {best.number} of study {study.study_name}, {metric} "
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
