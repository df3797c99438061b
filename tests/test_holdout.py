"""Held-out images, and what is stored of a trial's last epoch."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from fer import data
from fer.data import demo
from fer.data.faces import image_digests
from fer.errors import UserError
from fer.pipeline import FacePipeline
from fer.session import LOOKED
from fer.training.look import Looked, _mistakes
from study.analysis.overtuning import in_words, incumbents, relative_overtuning
from study.options import DEFAULT_URL, Images
from study.pipeline import Mark
from study.spec.faces import faces, faces_again
from study.spec.identity import IDENTITY, same_conditions
from study.spec.score import SCORED, holdout_of
from study.storage.records import CONFIG, RESULT, kept, result_of
from tests.conftest import Command, trials
from tests.test_report import change_result

SEARCH = ("--subset", 200, "--workers", 1, "--study", "small")


def held(share: float = 0.2, **changes: object) -> FacePipeline:
    return faces(Images(subset=200, holdout=share, **changes))


def looked(pipeline: FacePipeline, epochs: int, stop: int = 99) -> list[Looked]:
    """The last epochs of a trial, which is left after `stop` of them."""
    settings = {**pipeline.base, "epochs": epochs}
    found: list[Looked] = []
    training = pipeline.open("cpu").train(settings, Path("trial.state"), "key")
    for item in training:
        if isinstance(item, list):
            found += [each for each in item if isinstance(each, Looked)]
        elif isinstance(item, Looked):
            found.append(item)
        if not isinstance(item, Mark | str | list) and item.number == stop:
            break
    return found


def test_what_is_held_out_is_on_neither_side_and_drawn_by_the_seed_of_the_split() -> None:
    pipeline = held()
    assert pipeline.held is not None
    assert len(pipeline.held[1]) + len(pipeline.side[1]) == 200
    assert len(pipeline.held[1]) == pytest.approx(40, abs=4)
    seen, out = (image_digests(images) for images in (pipeline.side[0], pipeline.held[0]))
    assert not np.isin(out, seen).any()
    again, other = held().held, held(split_seed=7).held
    assert again is not None
    assert other is not None
    assert np.array_equal(again[0], pipeline.held[0])
    assert not np.array_equal(other[1], pipeline.held[1])
    assert f", {len(pipeline.held[1])} held out, of demo" in pipeline.about


def test_twins_are_held_out_together_where_the_split_is_grouped() -> None:
    part = demo.demo_faces().part("Training").take(np.arange(300))
    twice = part.take(np.repeat(np.arange(300), 2))
    for how, subset, cross in (
        ("grouped", None, False),
        ("grouped", 200, False),
        ("stratified", None, True),
        ("file-order", None, True),
    ):
        rest, out = data.set_aside(twice, 0.2, how, 0, subset)  # type: ignore[arg-type]
        assert out is not None
        assert len(rest) + len(out) == (subset or 600)
        ours, theirs = (image_digests(each.images.numpy()) for each in (out, rest))
        assert np.isin(ours, theirs).any() == cross, how


def digests(side: tuple[np.ndarray, np.ndarray] | None) -> set[bytes]:
    assert side is not None
    return {bytes(each) for each in image_digests(side[0])}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("vary_split", [False, True])
def test_a_confirmation_never_trains_on_what_its_search_held_out(
    whole: bool, vary_split: bool
) -> None:
    searched = held(split_seed=7)
    again = faces_again("s", searched.identity(), None, "cpu", whole, vary_split)
    repeated = faces_again("s", again.identity(), None, "cpu")  # of its own identity alone
    assert digests(repeated.held) == digests(again.held)
    assert (digests(again.held) == digests(searched.held)) != whole
    assert digests(again.held) >= digests(searched.held)
    assert not digests(again.held) & digests(searched.side)
    assert not digests(again.side) & digests(searched.held)


def test_a_class_that_a_holdout_leaves_out_is_named_with_its_count() -> None:
    part = demo.demo_faces().part("Training")
    with pytest.raises(UserError, match=r"no image of class 'disgust', which has 3;"):
        data.set_aside(part, 0.1, "grouped", 0, 150)
    loose = part.take(np.flatnonzero(part.labels.numpy() != 1))  # none of disgust
    loose = replace(loose, classes=part.classes)
    with pytest.raises(UserError, match="disgust"):
        data.set_aside(loose, 0.1, "grouped", 0, None)


def test_a_trial_trains_and_scores_alike_whatever_is_held_out() -> None:
    pipeline = held()
    assert pipeline.held is not None
    images, labels = pipeline.held
    other = replace(pipeline, held=(images, (labels + 1) % 7))
    ours = looked(pipeline, 4)
    Path("trial.state").unlink()
    theirs = looked(other, 4)
    assert [each.number for each in ours] == [2, 3, 4]  # those that score the trial
    assert LOOKED == SCORED == 3
    Path("trial.state").unlink()
    without = looked(replace(pipeline, held=None), 4)
    assert [each.score for each in ours] == [each.score for each in without]
    assert [each.holdout for each in ours] != [each.holdout for each in theirs]
    assert np.isnan([each.holdout for each in without]).all()


def test_an_interrupted_trial_has_the_same_holdout_and_mistakes() -> None:
    pipeline = held()
    whole = looked(pipeline, 4)
    Path("trial.state").unlink()
    looked(pipeline, 4, stop=3)
    again = looked(pipeline, 4)
    assert [each.holdout for each in again] == [each.holdout for each in whole]
    assert again[-1].mistakes == whole[-1].mistakes


def test_the_surest_mistakes_are_of_images_that_were_said_wrongly() -> None:
    pipeline = held()
    last = looked(pipeline, 1)[-1]
    right = np.unpackbits(np.frombuffer(last.right, np.uint8))
    labels = pipeline.side[1][pipeline.validated]
    assert 0 < len(last.mistakes) <= 12
    for mistake in last.mistakes:
        assert not right[mistake.case]
        assert mistake.truth == labels[mistake.case] != mistake.said
    sure = [mistake.sure for mistake in last.mistakes]
    assert sure == sorted(sure, reverse=True)
    assert 1 / 7 <= sure[-1] <= sure[0] <= 1


def test_a_mistake_is_one_of_those_that_the_epoch_counted() -> None:
    scores = torch.tensor([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0], [5.0, 0.0]])
    counted = torch.tensor([False, True, True, True])  # the first was mirrored, and right then
    rows = _mistakes(scores, torch.zeros(4, dtype=torch.int64), counted).tolist()
    assert [int(case) for case, _, _, sure in rows if sure >= 0] == [1, 2]


def test_a_study_decides_alike_whatever_the_holdout_says(command: Command) -> None:
    for name in ("high", "low"):
        line = ("--trials", 24, "--epochs", 8, "--workers", 1, "--study", name)
        done = command("study.run", "--pipeline", f"tests.blobs:{name}", *line)
        assert done.code == 0, done
    ours, theirs = trials(study="high"), trials(study="low")
    for one, other in zip(ours, theirs, strict=True):
        assert (one.params, one.state, one.value) == (other.params, other.state, other.value)
        assert one.intermediate_values == other.intermediate_values
    assert {one.state for one in ours} == {TrialState.COMPLETE, TrialState.PRUNED}
    told = [[result_of(each) for each in found if each.value] for found in (ours, theirs)]
    assert all(a and b and a.holdout != b.holdout for a, b in zip(*told, strict=True))


def test_a_replay_differs_where_the_stored_holdout_does(command: Command) -> None:
    of_blobs = ("--study", "s", "--pipeline", "tests.blobs:high")
    assert command("study.run", *of_blobs, "--trials", 1, "--workers", 1).code == 0
    replay = ("study.replay", *of_blobs, "--trial", 0)
    assert command(*replay).code == 0
    change_result(0, holdout=0.5)
    assert command(*replay).code == 1


def test_a_search_stores_what_is_held_out_and_never_shows_it_while_it_runs(
    command: Command,
) -> None:
    done = command("study.run", *SEARCH, "--trials", 3, "--epochs", 1, "--holdout", 0.2)
    assert done.code == 0, done
    identity = kept(optuna.load_study(study_name="small", storage=DEFAULT_URL), IDENTITY)
    assert identity["holdout"] == 0.2
    for trial in trials()[:3]:  # the others wait
        result = result_of(trial)
        assert result is not None
        assert result.holdout is not None
        right = np.unpackbits(np.frombuffer(base64.b64decode(result.right), np.uint8))
        assert np.trace(result.confusion) == right.sum()
        assert len(result.mistakes) > 0
        assert "holdout" not in result.values  # which are shown, as the curves are
    assert "Holdout: " in done.out
    (train,) = [line for line in done.out.splitlines() if "fer.train" in line]
    assert "--holdout 0.2" in train
    again = command("study.run", *SEARCH, "--trials", 3, "--epochs", 1)
    assert (again.code, "holdout was 0.2" in again.err) == (2, True), again
    confirmed = command("study.confirm", "--top", 1, "--seeds", 1, "--workers", 1)
    assert confirmed.code == 0, confirmed
    assert "held out, of demo" in confirmed.out
    (head,) = [line for line in confirmed.out.splitlines() if "standard error" in line][:1]
    assert "held out" in head
    assert "; held out: " in " ".join(confirmed.out.split())
    assert command("study.replay", "--study", "small", "--trial", 0).code == 0
    assert command("study.export", "--study", "small", "--out", "best.yaml").code == 0
    trained = command("fer.train", "--config", "best.yaml", "--subset", 200, "--epochs", 1)
    assert "held out: 20% then, none now" in trained.out, trained


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--holdout", "0"), ["holdout", "0"]),
        (("--holdout", "0.6"), ["holdout", "0.5"]),
        (("--holdout", "0.02"), ["--holdout 0.02", "disgust"]),
        (("--holdout", "0.1", "--pipeline", "tests.blobs:pipeline"), ["FER-2013 only", "blobs"]),
    ],
)
def test_a_holdout_that_cannot_be_is_one_line_and_no_study(
    arguments: tuple[str, ...], named: list[str], command: Command
) -> None:
    subset = () if "--pipeline" in arguments else ("--subset", 200)
    done = command("study.run", *subset, "--workers", 1, *arguments)
    assert done.code == 2, done
    assert all(word in done.err for word in named), done.err
    assert not Path("studies.db").exists()


def test_trials_with_a_holdout_are_not_those_without() -> None:
    without = {"data": "x", "subset": None}
    assert same_conditions(without, without)
    assert not same_conditions({**without, "holdout": 0.1}, without)
    assert not same_conditions(without, {**without, "holdout": 0.1})


def a_search(*scores: tuple[float, float]) -> optuna.Study:
    """Complete trials with these scores, and these on the cases held out."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(IDENTITY, {"kind": "search", "held_out": 400})
    for score, holdout in scores:
        result = {"score": score, "epoch": 1, "epochs": 1, "seconds": 1.0, "holdout": holdout}
        attributes = {CONFIG: {}, RESULT: result}
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=score, user_attrs=attributes)
        )
    return study


def test_overtuning_is_what_the_last_best_lost_of_what_was_gained() -> None:
    study = a_search((0.5, 0.50), (0.4, 0.9), (0.52, 0.54), (0.53, 0.53))
    trace = incumbents(study)
    assert [each.number for each in trace] == [0, 2, 3]
    assert relative_overtuning(trace) == pytest.approx(0.25)
    words = in_words(study)
    assert "score rose by 3.00 points; on the holdout it changed by +3.00" in words
    assert "1.00 points behind trial 2: relative overtuning 0.25" in words
    assert "a difference has a standard error of up to 3.53 points" in words
    assert in_words(a_search((0.5, 0.5), (0.6, 0.6))).count("no overtuning") == 1
    for holdouts in ((0.5, 0.5), (0.5, 0.6, 0.6)):  # the last is no worse than the best
        level = a_search(*((0.5 + 0.01 * i, each) for i, each in enumerate(holdouts)))
        assert relative_overtuning(incumbents(level)) == 0
        assert "no overtuning" in in_words(level)
    worse = incumbents(a_search((0.5, 0.50), (0.52, 0.54), (0.53, 0.48)))
    assert relative_overtuning(worse) > 1
    fallen = a_search((0.5, 0.5), (0.6, 0.4))
    assert np.isnan(relative_overtuning(incumbents(fallen)))
    none_better = "10.00 points behind trial 0: overtuned, no later incumbent beat the first"
    assert none_better in in_words(fallen)


def test_the_holdout_is_not_shown_while_a_trial_runs() -> None:
    study = a_search((0.5, 0.5), (0.6, 0.6))
    assert in_words(study)
    study.ask()
    assert in_words(study) == ""


def test_the_holdout_of_a_trial_is_the_mean_of_the_last_epochs_that_told_one() -> None:
    assert holdout_of([np.nan, np.nan]) is None
    assert holdout_of([np.nan, 0.5, 0.7]) == pytest.approx(0.6)
    assert holdout_of([0.1, 0.5, 0.7, 0.6]) == pytest.approx(0.6)
