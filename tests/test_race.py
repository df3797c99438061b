"""Racing drops clearly beaten settings and keeps the best."""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from fer.errors import UserError
from study.analysis import race
from study.analysis.comparison import confirmed
from study.analysis.effects import Effect, effects
from study.analysis.sections import unfinished
from study.analysis.summary import count_endings
from study.analysis.verdicts import judge
from study.engine import conduct, hiring
from study.engine.display import Display
from study.engine.eta import Forecast
from study.engine.race import LEAST
from study.spec.identity import IDENTITY
from study.storage import opening, studies
from study.storage.owned import OwnedDatabase
from study.storage.records import OWNER, Ending, ending, finished, kept, result_of
from study.workers.messages import Broken, Job, Message, OfTrial
from tests.races import NAMES, asked
from tests.scripted import Change, Scripted
from tests.test_image_noise import found_in, searched
from tests.test_verdict_rates import at_most, comparisons

Course = list[tuple[str, str]]


@pytest.fixture
def compete(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Conduct a race with scripted workers; its study."""

    def call(
        lanes: int = 1,
        order: int = 0,
        change: Change = lambda job, news: None,
        raced: bool = True,
        seeds: int = 6,
        folder: str = ".",
    ) -> optuna.Study:
        Path(folder).mkdir(exist_ok=True)
        drawn = random.Random(order)
        monkeypatch.setattr(
            hiring,
            "Pool",
            lambda pipeline, lanes, examples, spare: Scripted(pipeline, lanes, drawn, change),
        )
        url = f"sqlite:///{folder}/studies.db"
        name = conduct.conduct(asked(url, lanes, raced, seeds), lambda study: None).name
        return optuna.load_study(study_name=name, storage=opening.open_to_read(url))

    return call


def course(study: optuna.Study) -> Course:
    """How each row ended, in order."""
    return [
        (str(trial.params["which"]), ending(trial)) for trial in study.get_trials(deepcopy=False)
    ]


def left_out(study: optuna.Study) -> list[tuple[str, int]]:
    return [
        (trial.params["which"], trial.params["seed"])
        for trial in study.get_trials()
        if ending(trial) == Ending.OUT_OF_RACE
    ]


def test_what_is_clearly_beaten_is_trained_with_three_seeds_and_the_control_with_all(
    compete: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compete()
    assert left_out(study) == [(name, seed) for seed in (4, 5, 6) for name in ("bad", "worse")]
    out = [each for each in study.get_trials() if ending(each) == Ending.OUT_OF_RACE]
    assert {each.state for each in out} == {TrialState.PRUNED}
    assert all(not each.intermediate_values and each.value is None for each in out)
    result = result_of(out[0])
    assert result is not None
    assert "points behind good after 3 seeds" in result.reason
    printed = capsys.readouterr().out
    assert printed.count("out of the race") == 6
    assert "plan   30 trials x 2 epochs" in printed

    identity = kept(study, IDENTITY)
    assert unfinished(study, identity) == ""  # they count toward its total
    seeds = {each.label: len(each.seeds) for each in effects(study, identity)}
    assert seeds == {"hand": 6, "good": 6, "as good": 6, "bad": 3, "worse": 3}
    assert "24 trials complete, 0 pruned, 6 out of the race" in count_endings(study.get_trials())
    words = race.in_words(study)
    assert words.startswith("Dropped by the race, which saved 6 of 30 runs: bad, ")
    assert "worse, " in words

    again = compete()  # nothing is left
    assert course(again) == course(study)
    assert "plan" not in capsys.readouterr().out


def test_without_a_race_all_seeds_are_trained_and_what_the_race_trained_is_taken_over(
    compete: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    compete()
    capsys.readouterr()
    whole = compete(raced=False)
    assert {each for _, each in course(whole)} == {"complete"}
    printed = capsys.readouterr().out
    assert "plan   6 trials x 2 epochs of nothing, 1 at once, 6 more reused" in printed
    more = compete(seeds=7)  # all that is known is kept: it costs nothing
    assert left_out(more) == [("bad", 7), ("worse", 7)]


@pytest.mark.parametrize("lanes", [1, 2, 3, 5])
def test_a_race_is_the_same_whatever_the_timing(compete: Any, lanes: int) -> None:
    runs = [course(compete(lanes, order, folder=str(order))) for order in range(2)]
    assert runs[0] == runs[1]
    spared = [label for label, how in runs[0] if how == Ending.OUT_OF_RACE]
    assert len(spared) == {1: 6, 2: 6, 3: 6, 5: 5}[lanes]


@pytest.mark.parametrize(("lanes", "killed_at"), [(1, 30), (1, 47), (2, 47), (2, 55), (3, 50)])
def test_a_race_that_is_killed_continues_as_it_would_have(
    compete: Any, lanes: int, killed_at: int
) -> None:
    said = 0

    def kill(job: Job, news: OfTrial) -> None:
        nonlocal said
        said += 1
        if said == killed_at:
            raise ZeroDivisionError

    undisturbed = course(compete(lanes, folder="undisturbed"))
    with pytest.raises(ZeroDivisionError):
        compete(lanes, change=kill, folder="killed")
    assert course(compete(lanes, order=1, folder="killed")) == undisturbed


def test_the_time_that_is_left_is_without_what_is_spared(
    compete: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spared: list[int] = []

    class Counting(Display):
        def spare(self, trials: int) -> None:
            spared.append(trials)
            super().spare(trials)

    def kill(job: Job, news: OfTrial) -> None:
        if job.settings["seed"] == 5:
            raise ZeroDivisionError

    monkeypatch.setattr(conduct, "Display", Counting)
    with pytest.raises(ZeroDivisionError):
        compete(change=kill)
    assert spared == [3, 3]  # with its first row, all that are left of a setting
    capsys.readouterr()
    compete()
    assert "plan   6 trials x 2 epochs" in capsys.readouterr().out  # of the other three
    assert spared == [3, 3, 0, 0, 0, 0]
    forecast = Forecast(30, 2, 1, 1.0, 1.0, 3, 0)
    forecast.spare(10)
    assert forecast.seconds_left([]) == Forecast(20, 2, 1, 1.0, 1.0, 3, 0).seconds_left([])


JOIN = """
from study.engine import conduct
from study.engine.display import Display
from study.engine.eta import Forecast
from tests.races import asked
if __name__ == "__main__":
    conduct.conduct(asked("sqlite:///studies.db", 1, held_until="go on"), lambda study: None)
"""


@pytest.mark.long
def test_processes_that_run_one_race_together_leave_out_what_one_would(compete: Any) -> None:
    alone = course(compete(folder="alone"))
    Path("join.py").write_text(JOIN)
    joined = [subprocess.Popen([sys.executable, "join.py"], cwd=".") for _ in range(2)]
    while len(running()) < 2:
        assert [each.poll() for each in joined] == [None, None]
        time.sleep(0.1)
    Path("go on").touch()
    assert [each.wait(60) for each in joined] == [0, 0]
    storage = opening.open_to_read("sqlite:///studies.db")
    (name,) = optuna.get_all_study_names(storage)
    assert course(optuna.load_study(study_name=name, storage=storage)) == alone


def test_a_row_that_another_process_puts_back_at_the_end_is_trained_and_none_twice(
    compete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, held = OwnedDatabase.create_new_trial, list[int]()
    with closing(opening.open_database("sqlite:///studies.db")) as other:
        other.owner["process"] = 1  # else both are this process

        def take_the_last_row(job: Job, news: OfTrial) -> None:
            if not held:
                (study_id,) = (each._study_id for each in other.get_all_studies())
                *_, last = other.get_all_trials(study_id, states=(TrialState.WAITING,))
                assert other.set_trial_state_values(last._trial_id, TrialState.RUNNING)
                held.append(last.number)

        def put_back_first(self: OwnedDatabase, study_id: int, template: Any = None) -> int:
            if template is None:
                other.requeue(study_id, held[0], other.owner)
            return create(self, study_id, template)

        monkeypatch.setattr(OwnedDatabase, "create_new_trial", put_back_first)
        assert course(compete(change=take_the_last_row, seeds=2)) == [
            (name, "complete") for _ in range(2) for name in NAMES
        ]


def test_a_row_that_another_process_took_and_put_back_is_trained_again(compete: Any) -> None:
    taken = False

    def take(job: Job, news: OfTrial) -> None:
        nonlocal taken
        if (job.settings["which"], job.settings["seed"]) != ("worse", 2) or taken:
            return
        taken = True  # this process does not know yet
        with closing(opening.open_database("sqlite:///studies.db")) as other:
            (study_id,) = (each._study_id for each in other.get_all_studies())
            *_, last = other.get_all_trials(study_id, states=(TrialState.RUNNING,))
            assert last.params == {"which": "worse", "seed": 2}
            assert other.requeue(study_id, last.number, kept(last, OWNER))

    assert course(compete(3, change=take, seeds=2)) == [
        (name, "complete") for _ in range(2) for name in NAMES
    ]


def running() -> list[FrozenTrial]:
    """The trials that run in a database, if it is there yet."""
    try:
        found = studies.load_studies("sqlite:///studies.db")
    except UserError:
        return []
    return [each for study in found for each in study.get_trials(states=(TrialState.RUNNING,))]


def test_no_row_waits_for_ever_for_one_that_failed_and_is_tried_again(compete: Any) -> None:
    broken = 0

    def fail_then_kill(job: Job, news: OfTrial) -> Message | None:
        nonlocal broken
        if (job.settings["which"], job.settings["seed"]) == ("good", 2):
            broken += 1
            if broken == 1:
                return Broken("ValueError: once", "")
            raise ZeroDivisionError
        return None

    with pytest.raises(ZeroDivisionError):
        compete(2, change=fail_then_kill)
    study = compete(2, order=1)
    assert len(finished(study)) == 30
    assert {name for name, _ in left_out(study)} == {"bad", "worse"}


def test_what_diverged_is_trained_no_further_and_nobody_else_is_left_out_by_it() -> None:
    found = comparisons([0, 0, 0, 0], 3, repeats=1)[0]
    gone = replace(found[3], diverged=1)
    assert race.beaten([*found[:3], gone], "0", 3) == {"3": "diverged, after 3 seeds"}
    all_gone = [found[0], *(replace(each, diverged=1) for each in found[1:])]
    assert race.beaten(all_gone, "0", 3) == {}


def raced(found: Sequence[Effect]) -> list[Effect]:
    """What is trained of a comparison, all seeds of which are given."""
    seeds = len(found[0].seeds)
    out: dict[str, int] = {}

    def first(effect: Effect, count: int) -> Effect:
        return replace(
            effect,
            seeds=effect.seeds[:count],
            scores=effect.scores[:count],
            right=effect.right[:count],
        )

    for count in range(LEAST, seeds):
        trained = [first(each, out.get(each.label, count)) for each in found]
        for label in race.beaten(trained, "0", seeds - LEAST):
            out.setdefault(label, count)
    return [first(each, out.get(each.label, seeds)) for each in found]


def is_won(found: list[Effect]) -> bool:
    return confirmed(found, judge(found, "0"), "0").startswith("a real winner")


def rates(comparisons: list[list[Effect]], best: str = "1") -> tuple[float, float, float]:
    """Of some races: how often the best is left out, how often a winner is found, and how many
    runs are spared."""
    seeds, lost, won, spared = len(comparisons[0][0].seeds), 0, 0, 0
    for found in comparisons:
        trained = raced(found)
        lost += any(each.label == best and len(each.seeds) < seeds for each in trained)
        won += is_won(trained)
        spared += sum(seeds - len(each.seeds) for each in trained)
    count = len(comparisons)
    return lost / count, won / count, spared / count


RACES = 500


@pytest.mark.parametrize(
    ("means", "sds"),
    [
        ([0] * 6, 1.0),
        ([0] * 3, 1.0),
        ([0, 1, 0, 0, 0, 0], 1.0),
        ([0] * 6, [1, 1.5, 1, 1, 1, 1]),
        ([0, 1, 0, 0, 0, 0], [1, 2, 1, 1, 1, 1]),
    ],
)
def test_the_best_is_left_out_in_two_percent_at_most(
    means: list[float], sds: list[float] | float
) -> None:
    lost, won, _ = rates(comparisons(means, 6, sds, repeats=RACES))
    assert lost <= at_most(0.02, RACES)
    if not any(means):
        assert won <= at_most(0.05, RACES)


def test_settings_that_are_behind_cost_few_seeds_and_the_verdict_is_as_sure() -> None:
    means = [0, 0, -1, -2, -3, -4]
    ladder = comparisons(means, 6, repeats=RACES)
    lost, won, spared = rates(ladder)
    assert lost <= at_most(0.02, RACES)
    assert won <= at_most(0.05, RACES)
    assert 3.5 < spared < 7
    better = comparisons([each + 2 for each in means], 6, repeats=RACES)
    better = [
        [replace(each[0], scores=ladder[i][0].scores), *each[1:]] for i, each in enumerate(better)
    ]
    whole = sum(map(is_won, better)) / RACES
    assert rates(better)[1] > whole - 0.06


def test_images_that_all_share_leave_out_no_setting_that_is_as_good() -> None:
    rng = np.random.default_rng(7)
    lost, won, _ = rates([found_in(searched(rng, 1000)) for _ in range(200)])
    assert lost <= at_most(0.02, 200)
    assert won <= at_most(0.05, 200)
