"""Train a trial again from the database alone: `python -m study.replay --trial 12`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fer import command
from fer.errors import UserError

if TYPE_CHECKING:
    import torch
    from optuna.trial import FrozenTrial

    from study.identity import Identity


@dataclass(frozen=True)
class Options:
    """Train a stored trial again and compare its curve, epoch by epoch.

    On the same device with the same packages it is identical. Exit code 1 if it is not.
    """

    trial: int
    """Number of the trial."""
    study: str | None = None
    """Name of the study; by default the one that was worked on last."""
    storage: str = "sqlite:///studies.db"
    """SQLAlchemy URL of the database of studies."""
    data: Path | None = None
    """The study's images in any known form; else FER_DATA, ./data, or demo faces."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    out: Path | None = None
    """Also write both curves to this JSON file."""


def main() -> None:
    options: Options = command.parse(Options, "study.replay")

    import torch

    from fer import data
    from fer.config import EMOTIONS
    from fer.training.device import choose
    from fer.training.fit import Run, fit
    from fer.training.memory import reuse_memory
    from study import storage as store
    from study.identity import IDENTITY, check_data

    study = store.load_study(options.storage, options.study)
    trial = find(study.get_trials(deepcopy=False), options.trial, study.study_name)
    config = store.config_of(trial)
    identity = study.user_attrs[IDENTITY]
    if options.out is not None and (options.out.is_dir() or not options.out.parent.is_dir()):
        raise UserError(f"--out must be a file in an existing folder, got {options.out}")
    device = choose(options.device)
    removed = [name for name in EMOTIONS if name not in identity["classes"]]
    dataset = data.load(options.data, removed)
    check_data(study.study_name, identity, dataset)
    training, validation = data.split(
        dataset.part("Training"), identity["split"], identity["subset"]
    )
    stored = trial.intermediate_values
    result = trial.user_attrs.get(store.RESULT, {})
    losses = [*result.get("losses", []), *result.get("train_losses", [])]
    print(
        f"trial {trial.number} of study {study.study_name}: {len(stored)} epochs of "
        f"{len(training)} images",
        flush=True,
    )
    reuse_memory()
    torch.set_num_threads(config.threads)
    replayed: dict[int, float] = {}
    new_losses, train_losses = [], []
    print("epoch  stored   replayed  difference")
    for epoch in fit(Run(config, training, device), validation):
        replayed[epoch.number] = epoch.accuracy
        new_losses.append(epoch.loss)
        train_losses.append(epoch.train_loss)
        before = stored.get(epoch.number, float("nan"))
        difference = epoch.accuracy - before
        marked = f"{difference:+.4f}" if difference else "none"
        print(
            f"{epoch.number:5}  {before:.4f}   {epoch.accuracy:.4f}    {marked}",
            flush=True,
        )
        if len(replayed) == len(stored):
            break
    causes = likely_causes(trial, identity, config.precision, device)
    # Accuracies are coarse; losses show the last bit. Compared as text: NaN equals NaN there.
    new_losses += train_losses
    identical = replayed == stored and (not losses or str(new_losses) == str(losses))
    if options.out is not None:
        content = {"identical": identical, "differs": causes}
        curves = {
            "stored": {"accuracies": stored, "losses": losses},
            "replayed": {"accuracies": replayed, "losses": new_losses},
        }
        options.out.write_text(json.dumps({**content, **curves}, indent=2))
        print(f"saved  {options.out}")
    if identical:
        what = "all losses, to the last bit" if losses else "its losses are not stored"
        print(f"identical: all accuracies, {what}")
        return
    print(
        "different; likely because "
        + ("; ".join(causes) or "something the study does not store: nothing that it does differs")
    )
    sys.exit(1)


def find(trials: "list[FrozenTrial]", number: int, study_name: str) -> "FrozenTrial":
    """The trial of that number. Raises UserError if there is none or it has no epochs."""
    for trial in trials:
        if trial.number == number:
            if not trial.intermediate_values:
                raise UserError(
                    f"trial {number} of study {study_name!r} has no epochs "
                    f"({trial.state.name.lower()})"
                )
            return trial
    raise UserError(f"study {study_name!r} has no trial {number}, it has {len(trials)}")


def likely_causes(
    trial: "FrozenTrial", identity: "Identity", precision: str, device: "torch.device"
) -> list[str]:
    """What of this installation differs from the one that trained the trial, in words."""
    from fer import provenance
    from fer.network.kernels import kernels_for
    from study.identity import INSTALLATION, differences
    from study.ownership import OWNER, Owner

    now: dict[str, Any] = {
        "precision": precision,
        "kernels": kernels_for(device).name,
        "device": provenance.device_name(device),
        "code": provenance.code_version(device),
        "versions": provenance.versions(),
    }
    then = {key: value for key, value in identity.items() if key in INSTALLATION}
    causes = differences(then, now)
    owner = Owner.of(trial.user_attrs.get(OWNER))
    here = provenance.machine()
    if owner is not None and owner.processor and owner.processor != here:
        causes.append(f"the processor was {owner.processor}, now {here}")
    return causes


if __name__ == "__main__":
    command.run(main)
