"""Permanently delete a study: `python -m study.delete --study NAME`."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from fer import command
from fer.errors import UserError
from study.options import Stored
from study.words import counted


class Options(Stored):
    """Delete a study, its checkpoints and its artifacts, after asking for confirmation.

    Refuses while a process runs one of its trials. Files shared with other studies are kept.
    """

    study: str
    """Name of the study."""
    yes: bool = False
    """Do not ask; required without a terminal."""
    checkpoints: Path | None = None
    """Folder with the checkpoints of interrupted trials; by default next to an SQLite database,
    else ./studies.checkpoints."""


def main() -> None:
    options: Options = command.parse(Options, "study.delete")

    import optuna

    from study.storage import opening, studies
    from study.storage.deletion import artifacts_of, checkpoints_of, refuse_if_running

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = studies.load_study(options.storage, options.study)
    every = studies.load_studies(options.storage)
    pictures = opening.artifacts_beside(options.storage)
    with closing(opening.open_to_read(options.storage)) as database:
        refuse_if_running(study, database)
        artifacts = artifacts_of(study, every, database, pictures)
    folder = options.checkpoints or opening.checkpoints_beside(options.storage)
    states = checkpoints_of(study, every, folder)
    if not options.yes and not os.isatty(0):
        raise UserError(f"no terminal to confirm deleting study {options.study!r}: use --yes")
    trials = study.get_trials(deepcopy=False)
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    counts = [(len(trials), "trial"), (epochs, "epoch"), (len(states), "checkpoint")]
    found = ", ".join(counted(*each) for each in [*counts, (len(artifacts), "artifact")])
    print(f"study {options.study} in {opening.hidden(options.storage)}: {found}", flush=True)
    if not options.yes and not agreed():
        print("nothing was deleted")
        sys.exit(1)
    with closing(opening.open_database(options.storage)) as writing:
        again = optuna.load_study(study_name=options.study, storage=writing)
        refuse_if_running(again, writing)  # the answer may have taken a while
        writing.delete_study(writing.get_study_id_from_name(options.study))
    remove([*states, *artifacts])
    print("deleted")


def agreed() -> bool:
    """Ask the user for confirmation."""
    try:
        return input("delete it permanently? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def remove(files: Sequence[Path]) -> None:
    """Remove files, and their folders if they become empty."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:  # its study is gone already, so do not fail
            print(f"note: cannot remove {file}: {error.strerror}", file=sys.stderr)
    for folder in {file.parent for file in files}:
        with suppress(OSError):
            folder.rmdir()


if __name__ == "__main__":
    command.run(main, lasting=True)
