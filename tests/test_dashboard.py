"""What the Optuna dashboard shows of a study, requested as a browser does."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from xml.etree import ElementTree

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna.trial import TrialState, create_trial

from study.analysis import commands, summary
from study.dashboard import notes, pictures, show
from study.spec.identity import IDENTITY
from study.storage import opening, studies
from study.storage.notes import LONGEST, note_in, renumbered, write_notes
from study.storage.records import CONTINUES, Result, kept, result_of
from study.storage.rescue import save_beside
from tests.conftest import Command, trials
from tests.scripted import Run
from tests.studies import searched

board = pytest.importorskip("optuna_dashboard")

URL = "sqlite:///studies.db"
FOLDER = Path("studies.db.artifacts")
BLOBS = ("--pipeline", "tests.blobs:pipeline", "--workers", 1)


class Dashboard:
    """The real one, without a server."""

    def __init__(self, storage: optuna.storages.RDBStorage) -> None:
        self._app = board.wsgi(storage, artifact_store=FileSystemArtifactStore(FOLDER))

    def get(self, path: str) -> tuple[str, bytes]:
        """The kind of what it answers, and its bytes."""
        asked: dict[str, Any] = {}
        setup_testing_defaults(asked)
        path, _, query = path.partition("?")
        asked |= {"PATH_INFO": path, "QUERY_STRING": query}
        said: dict[str, str] = {}

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            assert status.startswith("200"), (path, status)
            said.update(headers)

        answer = self._app(asked, start)
        content = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        return said["Content-Type"], content

    def study(self, number: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(f"/api/studies/{number}")[1])
        return found


@contextmanager
def dashboard() -> Iterator[Dashboard]:
    storage = optuna.storages.RDBStorage(URL)
    try:
        yield Dashboard(storage)
    finally:
        storage.engine.dispose()


def searching(command: Command, trials: int, *more: object) -> str:
    done = command("study.run", "--study", "small", "--trials", trials, *BLOBS, *more)
    assert done.code == 0, done
    return done.out


def test_the_dashboard_shows_notes_attributes_metric_and_pictures(command: Command) -> None:
    searching(command, 20, "--pruner", "screen")
    with dashboard() as shown:
        found = shown.study()
        assert found["objective_names"] == ["share right"]
        assert [each["key"] for each in found["user_attrs"]] == ["command"]
        assert {each["key"] for each in found["union_user_attrs"]} == {
            *("best_epoch", "epochs", "seconds", "origin")
        }
        body = found["note"]["body"]
        assert body.startswith("## Not confirmed yet\n\nTrial ")
        for part in ("study.confirm", "python -m study.run", "| sign_lr |", "PED-ANOVA"):
            assert part in body, part
        assert [each["filename"] for each in found["artifacts"]] == ["history.svg"]
        complete = [each for each in found["trials"] if each["state"] == "Complete"]
        for each in complete:
            assert each["note"]["body"].startswith(f"**share right {each['values'][0]:.4f}**")
            assert {one["filename"] for one in each["artifacts"]} == {"score.svg", "losses.svg"}
            for one in each["artifacts"]:
                kind, content = shown.get(f"/artifacts/1/{each['trial_id']}/{one['artifact_id']}")
                assert kind == one["mimetype"] == "image/svg+xml"
                assert ElementTree.fromstring(content).tag.endswith("svg")
        stopped = [each for each in found["trials"] if each["state"] == "Pruned"]
        assert not any(each["note"]["body"] or each["artifacts"] for each in stopped)
        second = [each for each in complete if "Second chance of" in each["note"]["body"]]
        taken = [kept(trial, CONTINUES) for trial in trials()]
        assert len(second) == sum(each is not None for each in taken) > 0


def test_the_value_of_a_stopped_trial_is_its_score(run: Run) -> None:
    done = run(trials=20, pruner="screen")
    stopped = [trial for trial in done if trial.state == TrialState.PRUNED]
    assert stopped
    for trial in stopped:
        result = result_of(trial)
        assert result is not None
        assert trial.value == result.score
    assert any(trial.value != [*trial.intermediate_values.values()][-1] for trial in stopped)


def test_a_confirmation_changes_what_is_said_of_the_search(command: Command) -> None:
    searching(command, 8)
    confirm = ("study.confirm", "--study", "small", "--top", 2, "--seeds", 3, *BLOBS)
    done = command(*confirm)
    assert done.code == 0, done
    with dashboard() as shown:
        search, again = shown.study(1), shown.study(2)
    assert "over 3 fresh seeds" in search["note"]["body"]
    names = {each["filename"] for each in search["artifacts"]}
    assert names == {"history.svg", "seeds.svg", "differences.svg"}
    assert "over 3 fresh seeds" in again["note"]["body"]
    assert "PED-ANOVA" not in again["note"]["body"]
    assert {each["filename"] for each in again["artifacts"]} == {"seeds.svg", "differences.svg"}
    assert "Compared as: control, seed 1." in again["trials"][0]["note"]["body"]


def test_a_second_run_replaces_pictures_and_keeps_what_a_person_wrote(command: Command) -> None:
    searching(command, 4)
    study = optuna.load_study(study_name="small", storage=URL)
    board.save_note(study, board.get_note(study) + "\nMine: *look at trial 2*.")
    before = get_all_artifact_meta(study)
    system = study._storage.get_study_system_attrs(study._study_id)
    first = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    with closing(opening.open_database(URL)) as database:
        write_notes(database, study._study_id, {first._trial_id: "Mine as well."})
    searching(command, 9)
    searching(command, 9)  # nothing is left to train
    note = board.get_note(study)
    assert note.count("Mine: *look at trial 2*.") == 1
    assert note.count(notes.KEPT_BELOW) == 1
    assert "9 trials of up to 4 epochs" in note
    assert get_all_artifact_meta(study) == before
    system = study._storage.get_study_system_attrs(study._study_id)
    assert note_in(system, first._trial_id) == "Mine as well."
    files = {file.name for file in FOLDER.iterdir()}
    of_trials = [get_all_artifact_meta(each, storage=study._storage) for each in study.trials]
    assert files == {meta.artifact_id for metas in (before, *of_trials) for meta in metas}


@pytest.mark.parametrize("length", [0, 1, LONGEST, LONGEST + 1, 12 * LONGEST])
def test_the_dashboard_reads_notes_of_any_length_and_replaced_ones(length: int, url: str) -> None:
    with closing(opening.open_database(url)) as database:
        study_id, _ = studies.begin_or_check(database, "small", {}, [])
        trial_id = database.create_new_trial(study_id)
        texts = ["ab" * LONGEST, "".join(chr(97 + i % 26) for i in range(length))]
        for text in texts:
            write_notes(database, study_id, {None: text, trial_id: f"{text}!"})
            study = optuna.load_study(study_name="small", storage=database)
            assert board.get_note(study) == text
            system = database.get_study_system_attrs(study_id)
            assert note_in(system, None) == text
            assert note_in(system, trial_id) == f"{text}!"
        board.save_note(study, "theirs")
        system = database.get_study_system_attrs(study_id)
        assert note_in(system, None) == "theirs"
        assert system["dashboard:note_ver"] == 3


def test_notes_and_artifacts_follow_trials_that_get_other_ids() -> None:
    system = {
        **{"identity": {}, "dashboard:note_ver": 1, "dashboard:note_str:0": "all"},
        **{"dashboard:7:note_ver": 1, "dashboard:7:note_str:0": "seven", "artifacts:x": "{}"},
        **{"dashboard:8:note_ver": 1, "dashboard:artifacts:7:y": "{}"},
    }
    moved = renumbered(system, {7: 1})
    assert note_in(moved, 1) == "seven"
    assert note_in(moved, None) == "all"
    assert {"identity", "artifacts:x", "dashboard:artifacts:1:y"} <= moved.keys()
    assert not any(":7:" in key or ":8:" in key for key in moved)


def test_a_copy_of_a_database_has_its_pictures(command: Command) -> None:
    searching(command, 4)
    done = command("study.copy", "--out", "copy.db")
    assert "artifacts: " in done.out
    assert "in copy.db.artifacts" in done.out
    copied = sorted(file.name for file in Path("copy.db.artifacts").iterdir())
    assert copied == sorted(file.name for file in FOLDER.iterdir())
    shutil.rmtree(FOLDER)
    assert "artifacts" not in command("study.copy", "--out", "again.db").out


def test_a_study_that_is_saved_beside_its_lost_file_has_its_notes_and_pictures(
    command: Command,
) -> None:
    searching(command, 4)
    study = optuna.load_study(study_name="small", storage=URL)
    system = study._storage.get_study_system_attrs(study._study_id)
    kept_trials = study.trials[1:]
    ids = [trial._trial_id for trial in kept_trials]
    said = save_beside(URL, "small", system, study.user_attrs, kept_trials)
    (saved,) = Path().glob("studies-saved-*.db")
    assert str(saved) in said
    again = optuna.load_study(study_name="small", storage=f"sqlite:///{saved}")
    found = again._storage.get_study_system_attrs(again._study_id)
    assert board.get_note(again) == board.get_note(study)
    for old, trial in zip(ids, again.trials, strict=True):
        assert trial._trial_id != old
        note = note_in(found, trial._trial_id)
        assert note == note_in(system, old)
        assert note is not None
    pictures_of = sorted(file.name for file in Path(f"{saved}.artifacts").iterdir())
    assert pictures_of == sorted(file.name for file in FOLDER.iterdir())


def test_a_study_continues_where_pictures_cannot_be_written(command: Command) -> None:
    FOLDER.write_text("a file")
    searching(command, 4)
    with dashboard() as shown:
        found = shown.study()
    assert found["note"]["body"]
    assert not found["artifacts"]
    assert not any(each["artifacts"] for each in found["trials"])


def test_the_printed_command_says_where_the_pictures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "optuna-dashboard 'sqlite:///a b.db' --artifact-dir 'a b.db.artifacts'"
    assert commands.dashboard_command("sqlite:///a b.db") == line
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    install = "pip install optuna-dashboard && "
    assert commands.dashboard_command("sqlite:///a b.db") == install + line


def test_the_first_trials_and_the_best_ones_stand_out() -> None:
    middling = [0.5] * show.MANY
    assert show.stands_out(0.0, middling[1:])
    assert not show.stands_out(0.4, middling)
    assert not show.stands_out(0.5, [0.6] * show.BEST + [0.1] * 1000)
    assert show.stands_out(0.5, [0.6] * (show.BEST - 1) + [0.1] * 1000)


def test_a_confusion_matrix_is_drawn_with_the_names_of_its_classes() -> None:
    trial = create_trial(value=0.5, intermediate_values={1: 0.5})
    trial.number = 7
    result = Result("complete", 0.5, 1, 1, 1.0, 0.5, confusion=[[8, 2], [1, 4]])
    identity = {"classes": ["a & b", "<c>"], "epochs": 1}
    drawn = pictures.of_trial(trial, result, identity)
    assert drawn.keys() == {"score.svg", "confusion.svg"}
    words = [each.text for each in ElementTree.fromstring(drawn["confusion.svg"]).iter()]
    assert {"a & b", "<c>", "8", "2", "1", "4"} <= {*words}
    assert "Trial 7: 15 cases in its last epoch" in words


def test_notes_say_what_markdown_would_take_for_its_own() -> None:
    assert notes.plain("a_b *c* <d> [e](f) `g` | _h_") == (
        "a_b \\*c\\* \\<d\\> \\[e\\](f) \\`g\\` \\| \\_h\\_"
    )


def test_a_search_of_every_kind_of_trial_has_a_note_and_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = searched()
    text = notes.of_study(study, [study], URL)
    best, result = summary.complete_of(study)[0]
    assert f"### Best trial: {best.number}" in text
    assert notes.of_trial(best, result, kept(study, IDENTITY)) in text
    assert pictures.of_study(study, [study]).keys() == {"history.svg", "importance.svg"}
    monkeypatch.setattr(pictures, "IMPORTANCE_SECONDS", 1e6)
    drawn = pictures.of_study(study, [study])
    assert drawn.keys() == {"history.svg"}
    assert ElementTree.parse(io.StringIO(drawn["history.svg"]))
