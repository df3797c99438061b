"""study.delete removes a study with everything it owns, and nothing of other studies."""

import os
import pty
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import FrozenTrial, TrialState, create_trial

from study.options import DEFAULT_URL
from study.spec.identity import IDENTITY, conditions_of, trial_key
from study.storage.owner import Owner
from study.storage.records import CONFIG, OWNER, kept, settings_of
from tests import foreign
from tests.conftest import Command

BLOBS = ("--pipeline", "tests.blobs:pipeline", "--workers", 1, "--trials", 4)
FOLDER = Path("studies.db.checkpoints")


def searched(command: Command, name: str, sampler: str = "tpe") -> optuna.Study:
    done = command("study.run", *BLOBS, "--study", name, "--sampler", sampler)
    assert done.code == 0, done
    return study(name)


def study(name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=DEFAULT_URL)


def names() -> list[str]:
    return optuna.get_all_study_names(DEFAULT_URL)


def state_of(study: optuna.Study, trial: FrozenTrial) -> Path:
    """A checkpoint of a trial, as a process that was killed leaves it."""
    key = trial_key(conditions_of(kept(study, IDENTITY)), settings_of(trial))
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{key}.state"
    file.write_text("a state")
    return file


def test_a_study_goes_with_its_checkpoints_and_leaves_those_of_another(command: Command) -> None:
    theirs, pictures = searched(command, "theirs", "random"), Path("studies.db.artifacts")
    their_pictures = set(pictures.iterdir())
    ours = searched(command, "ours")
    own_pictures = len(set(pictures.iterdir()) - their_pictures)
    # Both begin with the hand-made settings; one trial of theirs is to go on from a shared state.
    shared, gone = ours.trials[0], ours.trials[1:]
    assert settings_of(shared) == settings_of(theirs.trials[0])
    for settings in (settings_of(shared), {**settings_of(shared), "lr": 0.123}):
        theirs.add_trial(create_trial(state=TrialState.WAITING, system_attrs={CONFIG: settings}))
    removed = [state_of(ours, trial) for trial in gone]
    removed.append(removed[0].with_suffix(".1a2b3c4d.part"))
    removed[-1].write_text("half a state")
    kept = [state_of(ours, shared), state_of(theirs, theirs.trials[5])]
    kept.append(FOLDER / "notes.txt")
    kept[-1].write_text("a person's")
    before = theirs.trials
    done = command("study.delete", "--study", "ours", "--yes")
    assert done.code == 0, done
    assert f"4 trials, 16 epochs, 4 checkpoints, {own_pictures} artifacts" in done.out
    assert not [file for file in removed if file.exists()]
    assert sorted(FOLDER.iterdir()) == sorted(kept)
    assert names() == ["theirs"]
    assert own_pictures
    assert set(pictures.iterdir()) == their_pictures
    assert study("theirs").trials == before
    assert command("study.delete", "--study", "theirs", "--yes").code == 0
    assert names() == []
    assert [file.name for file in FOLDER.iterdir()] == ["notes.txt"]
    assert not pictures.exists()


def test_the_folder_of_checkpoints_goes_with_the_last_one(command: Command) -> None:
    ours = searched(command, "ours")
    state_of(ours, ours.trials[0])
    elsewhere = FOLDER.rename("elsewhere")
    line = ("study.delete", "--study", "ours", "--yes", "--checkpoints", elsewhere)
    assert command(*line).code == 0
    assert not elsewhere.exists()


def test_its_artifacts_go_and_those_of_others_stay(command: Command) -> None:
    folder = Path("studies.db.artifacts")
    folder.mkdir()
    store = FileSystemArtifactStore(folder)
    Path("picture.png").write_text("a picture")
    ids = {}
    for name in ("ours", "theirs"):
        made = optuna.create_study(storage=DEFAULT_URL, study_name=name)
        for of in (made, trial := made.ask()):
            ids[name, of is made] = upload_artifact(
                artifact_store=store, file_path="picture.png", study_or_trial=of
            )
        made.tell(trial, 1.0)
    # A name is no path, and what a copy of the study has as well is not the study's alone.
    shared, by_hand = folder / ids["ours", False], folder / "by-hand"
    by_hand.write_text("another picture")
    for name, key in (
        ("ours", "artifacts:../picture.png"),
        ("ours", "dashboard:artifacts:1:by-hand"),
        ("theirs", f"artifacts:{shared.name}"),
    ):
        made = study(name)
        made._storage.set_study_system_attr(made._study_id, key, "{}")
    done = command("study.delete", "--study", "ours", "--yes")
    assert "2 artifacts" in done.out
    left = {ids["theirs", True], ids["theirs", False], shared.name}
    assert {file.name for file in folder.iterdir()} == left
    assert Path("picture.png").exists()


def test_a_study_that_another_process_runs_is_refused(command: Command) -> None:
    ours = searched(command, "ours")
    here = Owner.this()
    cases = {
        "this one": (asdict(here), True),
        "on another machine": (asdict(replace(here, host="far", boot="other")), True),
        "one that is gone": (asdict(replace(here, started=here.started - 1)), False),
        "plain Optuna": (None, True),
    }
    for case, (owner, runs) in cases.items():
        attributes = {} if owner is None else {OWNER: owner}
        ours.add_trial(create_trial(state=TrialState.RUNNING, system_attrs=attributes))
        before = study("ours").trials
        done = command("study.delete", "--study", "ours", "--yes")
        assert done.code == (2 if runs else 0), case
        if not runs:
            ours = searched(command, "ours")
            continue
        assert done.err.count("\n") == 1
        assert f"runs trial {before[-1].number}; stop it first" in done.err
        assert study("ours").trials == before
        running = before[-1]._trial_id
        ours._storage.set_trial_state_values(running, TrialState.FAIL)


@pytest.mark.parametrize(("answer", "goes"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_at_a_terminal_is_asked(answer: str, goes: bool) -> None:
    optuna.create_study(storage=DEFAULT_URL, study_name="plain")
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "study.delete", "--study", "plain"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(terminal, answer.encode())
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    os.close(theirs)
    assert "0 trials, 0 epochs, 0 checkpoints, 0 artifacts" in out
    assert "[y/N]" in out
    assert process.returncode == (0 if goes else 1)
    assert out.splitlines()[-1].endswith("deleted")
    assert names() == ([] if goes else ["plain"])


def test_without_a_terminal_it_needs_the_option(command: Command) -> None:
    optuna.create_study(storage=DEFAULT_URL, study_name="plain")
    shutil.copy("studies.db", "before.db")
    with Path(os.devnull).open() as nothing:
        done = subprocess.run(
            [sys.executable, "-m", "study.delete", "--study", "plain"],
            stdin=nothing,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--yes" in done.stderr
    assert Path("studies.db").read_bytes() == Path("before.db").read_bytes()


def test_a_study_among_trials_of_every_kind_is_deleted_completely(
    url: str, command: Command
) -> None:
    done = command("study.run", *BLOBS, "--study", "odd [x]", "--storage", url)
    assert done.code == 0, done
    storage = optuna.storages.RDBStorage(url)
    foreign.put_in(optuna.load_study(study_name="odd [x]", storage=storage))
    done = command("study.delete", "--study", "odd [x]", "--storage", url, "--yes")
    assert done.code == 0, done
    assert storage.get_all_studies() == []
    storage.engine.dispose()


@pytest.mark.parametrize("line", ["", "--study no", "--study= --yes", "--stduy x --yes"])
def test_what_is_no_study_is_refused(line: str, command: Command) -> None:
    optuna.create_study(storage=DEFAULT_URL, study_name="plain")
    done = command("study.delete", *line.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert names() == ["plain"]
