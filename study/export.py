"""The best configuration of a study as a file: `python -m study.export --out best.yaml`."""

from dataclasses import dataclass
from pathlib import Path

from fer import command
from fer.errors import UserError


@dataclass(frozen=True)
class Options:
    """Write the settings of a study's best trial, with where they come from, for fer.train."""

    study: str | None = None
    """Name of the study; by default the search that was worked on last."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    trial: int | None = None
    """Number of the trial; by default the best complete one."""
    out: Path = Path("best.yaml")
    """File to write."""


def main() -> None:
    options: Options = command.parse(Options, "study.export")

    import platform
    from importlib.metadata import version

    import optuna
    from optuna.trial import TrialState

    from fer.config import write_yaml
    from study import storage as store
    from study.identity import IDENTITY
    from study.trial import ending

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = store.load_study(options.storage, options.study, search=True)
    trials = [trial for trial in store.finished(study) if store.RESULT in trial.user_attrs]
    if options.trial is not None:
        trials = [trial for trial in trials if trial.number == options.trial]
        missing = f"no finished trial {options.trial}"
    else:
        trials = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        missing = "no complete trial"
    if not trials:
        raise UserError(
            f"{missing} in study {study.study_name!r} of {store.hidden(options.storage)}"
        )
    if IDENTITY not in study.user_attrs:
        raise UserError(f"study {study.study_name!r} was not begun by study.run")
    best = max(trials, key=lambda trial: trial.user_attrs[store.RESULT]["accuracy"] or 0.0)
    config = store.config_of(best)
    identity, result = study.user_attrs[IDENTITY], best.user_attrs[store.RESULT]
    provenance = {
        "study": study.study_name,
        "storage": store.hidden(options.storage),
        "trial": best.number,
        "trial_state": best.state.name.lower(),
        "validation_accuracy": result["accuracy"],
        "validation_macro_f1": result["macro_f1"],
        "validation_balanced_accuracy": result["balanced_accuracy"],
        "best_epoch": result["epoch"],
        "chosen_among": len(store.finished(study)),
        "data": identity["data"],
        "data_sha256": identity["data_sha256"],
        "split": identity["split"],
        "subset": identity["subset"],
        **{key: identity.get(key) for key in ("kernels", "device", "code", "versions")},
        "exported_with": {"fer-study": version("fer-study"), "python": platform.python_version()},
    }
    if result["accuracy"] is None:
        raise UserError(f"trial {best.number} {ending(best)}: it has no accuracy to go by")
    try:
        write_yaml({"config": config.settings(), "provenance": provenance}, options.out)
    except OSError as error:
        raise UserError(f"cannot write {options.out}: {error.strerror}") from None
    print(
        f"{options.out}: trial {best.number} of study {study.study_name}, validation accuracy "
        f"{result['accuracy']:.4f} at epoch {result['epoch']}"
    )


if __name__ == "__main__":
    command.run(main)
