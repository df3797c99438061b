"""Winners are retrained with seeds that were not used to select them."""

import re
import shlex
from pathlib import Path

import optuna
import pytest

from fer.config import Config
from fer.training.fit import Epoch
from study.confirm import label
from study.options import DEFAULT_URL, Images
from study.spec.faces import faces
from study.spec.identity import IDENTITY
from study.storage import records
from tests.conftest import Command, Table, trials, write_forms

SEARCH = ("--trials", 5, "--subset", 150, "--epochs", 1, "--workers", 1, "--study", "small")


def test_the_best_are_trained_again_with_other_seeds_beside_the_reports(command: Command) -> None:
    assert command("study.run", *SEARCH, "--remove", "disgust", "--seed", 3).code == 0
    line = ("study.confirm", "--top", 2, "--seeds", 2, "--workers", 1, "--out", "picture.png")
    done = command(*line)
    assert done.code == 0, done
    (name,) = set(optuna.get_all_study_names(DEFAULT_URL)) - {"small"}
    again_trained = trials(study=name)
    assert len(again_trained) == 3 * 2
    assert [trial.params["seed"] for trial in again_trained] == [4, 4, 4, 5, 5, 5]
    search = sorted(trials(), key=lambda trial: -(trial.value or 0))
    changed = [trial for trial in search if trial.params != search_of_hand_tuned(search)][:2]
    settled = {"seed", "threads", "precision", "epochs"}
    for seed in (0, 1):
        for trial, chosen in zip(again_trained[3 * seed + 1 : 3 * seed + 3], changed, strict=True):
            assert trial.user_attrs[records.ORIGIN] == f"{label(chosen)}, seed {4 + seed}"
            assert "hand-made" in label(chosen)
            ours, theirs = (
                Config(**records.kept(each, records.CONFIG)).model_dump(exclude=settled)
                for each in (trial, chosen)
            )
            assert ours == theirs
    assert {records.kept(trial, records.CONFIG)["epochs"] for trial in again_trained} == {1}
    assert "the search overestimated these settings" in done.out
    assert "beats one of hand-tuned with the same seed in" in done.out
    assert "note: 2 seeds detect no difference below 10 points" in done.out
    assert "in brackets" in done.out
    assert re.search(r"winner.*: trial \d \(hand-made .* points against hand-tuned", done.out)
    assert Path("picture.png").stat().st_size > 5000
    steps = [
        shlex.split(each, comments=True) for each in done.out.partition("next:")[2].split("\n")
    ]
    modules = {step[2]: step for step in steps if step and step[0] == "python"}
    assert modules["study.export"][3:5] == ["--study", name]
    assert modules["fer.train"][3:5] == ["--config", "best.yaml"]
    if "study.confirm" in modules:  # the very command, with more seeds
        given = modules["study.confirm"][3:]
        assert given[:2] == ["--top", "2"]
        assert int(given[given.index("--seeds") + 1]) >= 6
        assert given[given.index("--study") + 1] == "small"

    assert command("study.results", "--out", "page").code == 0
    page = Path("page/results.md").read_text()
    again = re.search(r"^    python -m (study.confirm .*)$", page, re.MULTILINE)
    assert again is not None
    for other in (shlex.split(again[1]), line):
        repeated = command(*other)
        assert repeated.code == 0, repeated
        assert f"study  {name}, 6 trials finished" in repeated.out


def test_with_a_split_of_its_own_each_seed_validates_on_other_images(command: Command) -> None:
    assert command("study.run", *SEARCH).code == 0
    line = ("study.confirm", "--top", 1, "--seeds", 2, "--workers", 1, "--study", "small")
    assert command(*line).code == 0
    fixed = {*optuna.get_all_study_names(DEFAULT_URL)}
    done = command(*line, "--vary-split")
    assert done.code == 0, done
    assert "grouped split, drawn anew for each seed" in done.out
    assert "overestimated" not in done.out  # other images
    (name,) = {*optuna.get_all_study_names(DEFAULT_URL)} - fixed
    stored = records.kept(optuna.load_study(study_name=name, storage=DEFAULT_URL), IDENTITY)
    assert stored["split_seed"] == "seed"
    for trial in trials(study=name):
        settings = records.kept(trial, records.CONFIG)
        pipeline = faces(Images(subset=150, split_seed=settings["seed"]))
        session = pipeline.open("cpu")
        trained = list(session.train(settings, Path(f"{trial.number}.state"), ""))
        assert [each.score for each in trained if isinstance(each, Epoch)] == [trial.value]
    again = command("study.replay", "--study", name, "--trial", 3)
    assert again.code == 0, again


def search_of_hand_tuned(search: list[optuna.trial.FrozenTrial]) -> dict[str, object]:
    (params,) = (
        trial.params for trial in search if trial.user_attrs.get(records.ORIGIN) == "hand-tuned"
    )
    return params


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--top", "0"), ["--top", "0"]),
        (("--seeds", "0"), ["--seeds", "0"]),
        (("--epochs", "0"), ["--epochs", "0"]),
        (("--out", "no/such.png"), ["--out", "no/such.png"]),
        (("--out", "picture"), ["--out", ".png", "picture"]),
        (("--storage", "sqlite:///none.db"), ["none.db"]),
        (("--study", "none"), ["none"]),
    ],
)
def test_a_mistake_is_one_line_and_no_study(
    arguments: tuple[str, ...], named: list[str], command: Command
) -> None:
    optuna.create_study(storage=DEFAULT_URL, study_name="other")
    done = command("study.confirm", *arguments)
    assert done.code == 2, done
    assert all(word in done.err for word in named), done.err
    assert "Traceback" not in done.err
    assert optuna.get_all_study_names(DEFAULT_URL) == ["other"]
    assert {path.name for path in Path().iterdir()} == {"studies.db"}


def test_a_comparison_or_a_study_of_other_images_is_not_confirmed(
    command: Command, table: Table
) -> None:
    line = ("--subset", 150, "--epochs", 1, "--workers", 1)
    assert command("study.compare", "--vary", "scaling", "--seeds", 1, *line).code == 0
    done = command("study.confirm")
    assert (done.code, "no search in" in done.err) == (2, True), done
    (name,) = optuna.get_all_study_names(DEFAULT_URL)
    done = command("study.confirm", "--study", name)
    assert (done.code, name in done.err) == (2, True), done
    assert command("study.run", *SEARCH, "--remove", "sad").code == 0
    before = optuna.get_all_study_names(DEFAULT_URL)
    done = command("study.confirm", "--data", write_forms(table, Path())["parquet"])
    assert (done.code, "other data: study 'small'" in done.err) == (2, True), done
    assert optuna.get_all_study_names(DEFAULT_URL) == before
