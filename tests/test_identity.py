"""A study stores all that its results depend on, and does not continue if any of it differs."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch
import yaml

from fer import provenance
from fer.config import Config
from fer.errors import UserError
from study.options import DEFAULT_URL, Images
from study.spec import identity
from study.spec.faces import faces, pipeline_again
from study.storage import opening, records
from study.storage import studies as store
from tests.conftest import Command, Result

SMALL = ("--subset", "150", "--study", "small", "--workers", "1", "--epochs", "2")
OLD_STUDIES = Path(__file__).parent / "older_version.db"


@pytest.fixture
def run(command: Command) -> Callable[..., Result]:
    return lambda *arguments: command("study.run", *SMALL, *arguments)


@pytest.fixture(scope="module")
def trained_once() -> dict[str, bytes]:
    """The database of a study of seven trials, once a test has trained it."""
    return {}


@pytest.fixture
def trained(trained_once: dict[str, bytes], run: Callable[..., Result]) -> None:
    """A study of seven trials in the default database."""
    file = Path("studies.db")
    if not trained_once:
        done = run("--trials", 7)
        assert done.code == 0, done
        trained_once["content"] = file.read_bytes()
    file.write_bytes(trained_once["content"])


def change(query: str, *values: object) -> None:
    """Change the database behind the program's back."""
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        assert connection.execute(query, values).rowcount


def content() -> str:
    """A hash of every row."""
    with closing(sqlite3.connect("studies.db")) as connection:
        return hashlib.sha256("".join(connection.iterdump()).encode()).hexdigest()


def change_identity(**changed: object) -> None:
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    stored = {**records.kept(study, identity.IDENTITY), **changed}
    study._storage.set_study_system_attr(study._study_id, identity.IDENTITY, stored)


def test_what_the_numbers_depend_on_is_stored_with_the_study(trained: None) -> None:
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    stored = records.kept(study, identity.IDENTITY)
    assert stored["data"] == "demo"
    assert len(stored["data_sha256"]) == 64
    assert stored["versions"].keys() == {"torch", "numpy", "scikit-learn", "optuna"}
    assert stored["code"] == provenance.code_version(torch.device("cpu"))
    assert stored["device"].startswith("cpu")
    expected = {
        "split",
        "split_seed",
        "space",
        "space_definition",
        "epochs",
        "seed",
        "subset",
        "precision",
    }
    assert expected <= stored.keys()


def test_the_images_of_a_study_are_split_again_as_it_split_them() -> None:
    stored = faces(Images(subset=200, split_seed=7)).identity()
    again = pipeline_again(None, "small", stored, None, "cpu")
    assert again.identity() == stored
    del stored["split_seed"]  # as older versions stored it
    older = pipeline_again(None, "small", stored, None, "cpu")
    assert older.identity() == {**stored, "split_seed": 42}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"code": "0123456789ab"}, 'code was "0123456789ab", now "'),
        ({"versions": {"torch": "2.11.0"}}, 'torch was "2.11.0", now "'),
        ({"precision": "float16"}, 'precision was "float16"'),
        ({"format": 99}, "newer version of this program (format 99"),
    ],
)
def test_another_installation_is_refused_by_name(
    changed: dict[str, object], named: str, trained: None, run: Callable[..., Result]
) -> None:
    change_identity(**changed)
    before = content()
    result = run("--trials", 8)
    assert result.code == 2, result
    line = result.err.splitlines()[-1]
    assert named in line, line
    assert "'small'" in line
    assert content() == before


def test_forgotten_data_are_named_alone_with_the_way_to_give_them() -> None:
    now = {**faces(Images(subset=200)).identity(), "epochs": 4}
    stored = {**now, "epochs": 30, "data": "fer2013", "data_sha256": "d027", "code": "other"}
    with pytest.raises(UserError) as refused:
        identity.check("small", stored, now)
    words = str(refused.value)
    assert words.startswith("other data: study 'small' used fer2013 (d027), this is demo (")
    assert "give its data with --data" in words
    assert words.endswith("or choose another --study")
    assert "epochs" not in words  # what else differs follows from the data
    with pytest.raises(UserError, match="leave out --data and FER_DATA for the demo faces"):
        identity.check("small", now, stored)


def test_a_study_continues_on_another_cpu_and_its_trials_say_so(
    trained: None, run: Callable[..., Result], command: Command
) -> None:
    then = {"device": "cpu of old", "kernels": "compiled long ago"}
    change_identity(**then)
    result = run("--trials", 8)
    assert result.code == 0, result
    assert "started on cpu of old, compiled long ago; now on cpu" in result.out
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    here = identity.hardware_of(faces(Images(subset=150)).identity())
    assert records.kept(study.trials[6], records.TRAINED_ON) is None
    assert records.kept(study.trials[7], records.TRAINED_ON) == [[1, here]]
    assert command("study.export", "--trial", 7, "--out", "here.yaml").code == 0
    assert yaml.safe_load(Path("here.yaml").read_text())["provenance"].items() >= here.items()
    assert command("study.export", "--trial", 6, "--out", "then.yaml").code == 0
    assert yaml.safe_load(Path("then.yaml").read_text())["provenance"].items() >= then.items()
    assert command("study.results", "--out", "results").code == 0
    words = identity.hardware_in_words(here)
    assert f"1 of its trials on {words}" in Path("results/results.md").read_text()
    assert command("study.report", "--out", "page.html").code == 0
    assert f"1 trial ran at least partly on {words}" in Path("page.html").read_text()
    assert "identical" in command("study.replay", "--trial", 7).out
    change("UPDATE trial_intermediate_values SET intermediate_value = 0.99 WHERE step = 2")
    elsewhere, again = (command("study.replay", "--trial", number).out for number in (6, 7))
    assert 'device was "cpu of old"' in elsewhere
    assert "device was" not in again


def test_a_new_study_says_which_one_it_does_not_continue(command: Command) -> None:
    options = ("--pipeline", "tests.blobs:pipeline", "--trials", 1, "--workers", 1)
    assert command("study.run", *options, "--study", "small").code == 0
    twin = command("study.run", *options, "--study", "twin")
    assert "differs only in code or packages" not in twin.out  # it is the same one
    optuna.delete_study(study_name="twin", storage=DEFAULT_URL)
    change_identity(code="0123456789ab")
    result = command("study.run", *options)
    assert result.code == 0, result
    assert "study small differs only in code or packages and is not continued" in result.out


def test_studies_of_an_older_version_are_read_and_say_why_they_do_not_continue(
    command: Command,
) -> None:
    shutil.copy(OLD_STUDIES, "studies.db")
    names = optuna.get_all_study_names(DEFAULT_URL)
    assert "fer2013-c66d2b" in names
    study = ("--study", "fer2013-c66d2b")
    best = optuna.load_study(study_name=study[1], storage=DEFAULT_URL).best_trial
    assert records.kept(best, records.CONFIG)["batch_norm"]  # as a setting was called then
    assert command("study.export", *study, "--out", "best.yaml").code == 0
    content = yaml.safe_load(Path("best.yaml").read_text())
    settings = Config(**records.kept(best, records.CONFIG)).settings()
    assert content["config"] == {**settings, "epochs": 30, "threads": 0}
    assert content["config"]["norm"] == "batch"
    assert content["provenance"]["validation_accuracy"] == best.value
    assert content["provenance"]["validation_macro_f1"] > 0.4
    assert command("study.report", *study).code == 0
    assert command("study.results", "--out", "results").code == 0
    page = Path("results/results.md").read_text()
    assert "Created by an older version, which stored no command." in page
    refused = command("study.replay", *study, "--trial", 1)
    assert refused.code == 2
    assert "other data" in refused.err
    continued = command("study.run", *study, "--trials", 31, "--workers", 1)
    assert continued.code == 2
    assert "it was started by an older version that did not store" in continued.err


def test_replay_repeats_a_trial_from_the_database_alone(trained: None, command: Command) -> None:
    for number in (0, 6):
        replayed = command("study.replay", "--trial", number, "--out", "curves.json")
        assert replayed.code == 0, replayed
        assert "identical: every score to the last bit, and " in replayed.out
        assert "loss, train_loss" in replayed.out
        content = json.loads(Path("curves.json").read_text())
        assert content["identical"]
        assert content["stored"] == content["replayed"]
        assert {*content["stored"]} >= {"scores", "loss", "train_loss"}
        assert len(content["stored"]["loss"]) == len(content["stored"]["scores"])


def test_replay_tells_a_difference_and_its_likely_cause(trained: None, command: Command) -> None:
    change_identity(versions={**provenance.versions(), "torch": "2.11.0"})
    assert "identical" in command("study.replay", "--trial", 0).out
    # One bit of one loss, which no score shows.
    study = optuna.load_study(study_name="small", storage=DEFAULT_URL)
    result = records.kept(study.trials[0], records.RESULT)
    result["curves"]["loss"][1] *= 1 + 2**-50
    stored = "UPDATE trial_system_attributes SET value_json = ? WHERE key = 'result'"
    change(stored, json.dumps(result))
    first = command("study.replay", "--trial", 0)
    assert first.code == 1, first
    result["curves"]["loss"][1] /= 1 + 2**-50
    result["right"] = "AAAA" + result["right"][4:]
    change(stored, json.dumps(result))
    replayed = command("study.replay", "--trial", 0)
    assert replayed.code == 1, replayed
    assert 'different; likely because torch was "2.11.0", now "' in replayed.out
    change("UPDATE trial_intermediate_values SET intermediate_value = 0.99 WHERE step = 2")
    assert "-0." in command("study.replay", "--trial", 0).out


def test_replay_refuses_what_it_cannot_repeat(
    run: Callable[..., Result], command: Command
) -> None:
    assert run("--trials", 1).code == 0
    for number, named in ((77, "has no trial 77"), (3, "has no epochs (waiting)")):
        refused = command("study.replay", "--trial", number)
        assert refused.code == 2
        assert named in refused.err
    change("UPDATE trial_system_attributes SET value_json = '{\"nose\": 1}' WHERE key = 'config'")
    for module, *arguments in (("study.replay", "--trial", 0), ("study.export",)):
        refused = command(module, *arguments)
        assert refused.code == 2
        assert "unknown configuration key 'nose' in the settings of trial 0" in refused.err


def test_a_copy_is_whole_and_can_be_made_while_a_study_writes(
    trained: None, run: Callable[..., Result], command: Command
) -> None:
    with closing(opening.open_database(DEFAULT_URL)) as database:
        study = optuna.load_study(study_name="small", storage=database)
        study.sampler = optuna.samplers.RandomSampler(seed=1)
        trial = study.ask()
        trial.report(0.25, 1)
        copied = command("study.copy", "--out", "copy.db")
        assert copied.code == 0, copied
        trial.report(0.5, 2)
    assert "studies: 1, trials: 8, checked" in copied.out
    url = "sqlite:///copy.db"
    ours, theirs = (
        optuna.load_study(study_name="small", storage=each).get_trials()
        for each in (DEFAULT_URL, url)
    )
    assert theirs[7].intermediate_values == {1: 0.25}
    assert ours[7].intermediate_values == {1: 0.25, 2: 0.5}
    assert [trial.params for trial in ours] == [trial.params for trial in theirs]
    assert ours[:7] == theirs[:7]
    assert not Path("copy.db-wal").exists()
    # The copy is a database like any other.
    assert command("study.export", "--storage", url).code == 0
    assert run("--trials", 8, "--storage", url).code == 0


def test_a_copy_of_a_server_is_an_sqlite_file(url: str, command: Command) -> None:
    with closing(opening.open_database(url)) as database:
        store.begin_or_check(database, "empty", {"format": 2}, [])
    assert command("study.copy", "--storage", url, "--out", "copy.db").code == 0
    assert optuna.get_all_study_names("sqlite:///copy.db") == ["empty"]


def test_a_copy_overwrites_nothing(command: Command) -> None:
    Path("copy.db").write_text("mine")
    refused = command("study.copy", "--out", "copy.db")
    assert refused.code == 2
    assert "copy.db" in refused.err
    assert Path("copy.db").read_text() == "mine"
    missing = command("study.copy", "--out", "other.db")
    assert missing.code == 2
    assert "no such storage" in missing.err


@pytest.mark.parametrize(
    "url",
    [
        "nosuchdb://me:hunter2@host/studies",
        "postgresql+psycopg://me:hunter2@nosuchhost:77777777/studies",
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/studies",
        "postgresql+psycopg://me@127.0.0.1:1/studies?password=hunter2",
        "postgresql+psycopg//me:hunter2@host/studies",
        "postgresql+psycopg://me:hunter2@host:port/studies",
        "postgresql+psycopg://me:hunter2",
    ],
)
def test_a_password_is_never_shown(url: str, command: Command) -> None:
    for module in ("study.run", "study.export", "study.replay", "study.report", "study.copy"):
        arguments = ["--trial", 1] if module == "study.replay" else []
        result = command(module, "--storage", url, *arguments)
        assert result.code == 2, result
        assert "hunter2" not in result.out + result.err


def test_hidden_keeps_what_is_no_password() -> None:
    assert opening.hidden("sqlite:///studies.db") == "sqlite:///studies.db"
    assert "***" in opening.hidden("postgresql://me:hunter2@host/a")


def test_checkpoints_must_be_a_folder(command: Command) -> None:
    Path("mine.yaml").write_text("lr: 1")
    refused = command("study.run", *SMALL, "--trials", 1, "--checkpoints", "mine.yaml")
    assert refused.code == 2, refused
    assert refused.err.strip().endswith("--checkpoints must be a folder, got the file mine.yaml")
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_reading_a_database_that_is_not_ours_leaves_it_as_it_is(command: Command) -> None:
    with closing(sqlite3.connect("studies.db")) as connection, connection:
        connection.execute("CREATE TABLE friends (name TEXT)")
    before = content()
    for module in ("study.export", "study.report", "study.copy"):
        refused = command(module)
        assert refused.code == 2, refused
        assert "no study in sqlite:///studies.db" in refused.err
    assert content() == before
