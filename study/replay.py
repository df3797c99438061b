"""Retrain a trial from the database alone: `python -m study.replay --trial 12`."""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer import command
from fer.errors import UserError
from fer.files import check_file, write_file
from fer.strict_json import to_json
from study.options import Existing, Pipelined, Place
from study.words import counted

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from study.pipeline import Pipeline, Scored, Settings
    from study.spec.identity import Identity


class Options(Existing, Place, Pipelined):
    """Retrain a stored trial and compare its learning curve, epoch by epoch.

    With the same hardware and packages, the curves are identical. Exits with code 1 if they
    differ.
    """

    trial: int
    """Number of the trial."""
    out: Path | None = None
    """JSON file to write both curves to; an existing file is replaced."""


def main() -> None:
    options: Options = command.parse(Options, "study.replay")
    options.refuse(*Place.model_fields)
    check_file("--out", options.out)

    from study.spec.faces import in_this_version, pipeline_again
    from study.spec.identity import IDENTITY
    from study.storage import studies
    from study.storage.records import kept, result_of, settings_of

    study = studies.load_study(options.storage, options.study)
    trial = find(study.get_trials(deepcopy=False), options.trial, study.study_name)
    identity = kept(study, IDENTITY, {})
    settings = in_this_version(settings_of(trial), identity, trial.number)
    pipeline = pipeline_again(
        options.pipeline, study.study_name, identity, options.data, options.device
    )
    stored = trial.intermediate_values
    result = result_of(trial)
    curves = dict(result.curves) if result else {}
    right, holdout = (result.right, result.holdout) if result else ("", None)
    print(
        f"trial {trial.number} of study {study.study_name}: {counted(len(stored), 'epoch')} on "
        f"{pipeline.about}",
        flush=True,
    )
    epochs = trained(pipeline, settings, len(stored))
    replayed, new, new_right, new_holdout = beside(stored, curves, epochs)
    causes = likely_causes(trial, identity, pipeline)
    # Scores are coarse; losses show the last bit. Compare as JSON, where NaN is null.
    identical = to_json([replayed, new]) == to_json([stored, curves])
    identical = identical and right in ("", new_right) and holdout in (None, new_holdout)
    if options.out is not None:
        content = {
            "identical": identical,
            "differs": causes,
            "stored": {"scores": stored, **curves},
            "replayed": {"scores": replayed, **new},
        }
        write_file(options.out, to_json(content, indent=2))
        print(f"saved  {options.out}")
    if identical:
        names = ", ".join(curves) if curves else "nothing else is stored"
        print(f"identical: every score to the last bit, and {names}")
        return
    print(
        "different; likely because "
        + (
            "; ".join(causes)
            or "of something the study does not store: what it stores is the same"
        )
    )
    sys.exit(1)


def beside(
    stored: Mapping[int, float], curves: Mapping[str, list[float]], epochs: "Iterator[Scored]"
) -> tuple[dict[int, float], dict[str, list[float]], str, float | None]:
    """Print each score of `epochs` next to the `stored` one. Return the scores and curves, and as
    they are stored which validation cases were correct in the last epoch and the holdout score."""
    from study.spec.score import holdout_of
    from study.storage.records import as_text

    right = b""
    told: list[float] = []
    replayed: dict[int, float] = {}
    new: dict[str, list[float]] = {name: [] for name in curves}
    print("epoch  stored   replayed  difference")
    for epoch in epochs:
        replayed[epoch.number] = epoch.score
        for name, curve in new.items():
            curve.append(epoch.values.get(name, float("nan")))
        right = getattr(epoch, "right", b"")
        told.append(getattr(epoch, "holdout", float("nan")))
        before = stored.get(epoch.number, float("nan"))
        difference = epoch.score - before
        marked = f"{difference:+.4f}" if difference else "none"
        print(f"{epoch.number:5}  {before:.4f}   {epoch.score:.4f}    {marked}", flush=True)
    return replayed, new, as_text(right), holdout_of(told)


def trained(pipeline: "Pipeline", settings: "Settings", epochs: int) -> "Iterator[Scored]":
    """Yield the first epochs of a trial, trained in this process from its seed."""
    from study.pipeline import Mark

    session = pipeline.open(pipeline.devices[0])
    with tempfile.TemporaryDirectory() as folder:
        training = session.train(settings, Path(folder) / "replay.state", "replay")
        for item in training:
            if isinstance(item, str):
                print(item)
            elif isinstance(item, Mark):
                while not item.query():
                    time.sleep(1e-3)
            elif not isinstance(item, Sequence):
                yield item
                if item.number == epochs:
                    return


def find(trials: "list[FrozenTrial]", number: int, study_name: str) -> "FrozenTrial":
    """Return the trial with a number. Raises UserError if it does not exist or has no epochs."""
    for trial in trials:
        if trial.number == number:
            if not trial.intermediate_values:
                raise UserError(
                    f"trial {number} of study {study_name!r} has no epochs "
                    f"({trial.state.name.lower()})"
                )
            return trial
    raise UserError(f"study {study_name!r} has no trial {number}, it has {len(trials)}")


def likely_causes(trial: "FrozenTrial", identity: "Identity", pipeline: "Pipeline") -> list[str]:
    """Return how this installation differs from the one that trained the trial."""
    from fer.machine import processor
    from study.spec.identity import INSTALLATION, differences, hardware_in_words
    from study.storage.owner import Owner
    from study.storage.records import OWNER, hardware_by_epoch, kept

    def installed(known: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in known.items() if key in INSTALLATION}

    stretches = hardware_by_epoch(trial, identity)
    then = identity | stretches[1]
    causes = differences(installed(then), installed(pipeline.identity()))
    causes += [
        f"from epoch {first} on it was trained on {hardware_in_words(hardware)}"
        for first, hardware in stretches.items()
        if first > 1
    ]
    owner = Owner.of(kept(trial, OWNER))
    here = processor()
    if owner is not None and owner.processor and owner.processor != here:
        causes.append(f"the processor was {owner.processor}, now {here}")
    return causes


if __name__ == "__main__":
    command.run(main, lasting=True)
