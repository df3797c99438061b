"""The loop without worker processes: a NumPy pipeline trained by scripted workers."""

import base64
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from fer import one_run
from fer.errors import UserError
from study.engine import slow
from study.engine.budget import spent
from study.engine.schedule import Schedule
from study.engine.stop import Stop
from study.engine.trial import Trial
from study.judging.curves import curves_of
from study.judging.rules import RULES
from study.pipeline import Epoch, Only, Settings
from study.spec.score import SCORED, score_of
from study.storage import opening, records, studies
from study.workers.messages import (
    Broken,
    Died,
    Job,
    Message,
    OfTrial,
    OutOfMemory,
    Trained,
)
from tests.blobs import Blobs
from tests.scripted import Run, stored


def course(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.state, trial.params, trial.intermediate_values, right_of(trial))
        for trial in trials
    ]


def right_of(trial: FrozenTrial) -> str:
    result = records.result_of(trial)
    assert result is not None
    assert result.right
    return result.right


def test_trials_is_the_total_and_the_control_comes_first_and_is_never_pruned(run: Run) -> None:
    done = run(trials=14)
    assert len(done) == 14
    assert [trial.user_attrs.get(records.ORIGIN) for trial in done[:3]] == [
        "control",
        "fast",
        None,
    ]
    assert done[0].state == TrialState.COMPLETE
    assert Counter(trial.state for trial in done)[TrialState.PRUNED] > 0
    for trial in done:
        assert list(trial.intermediate_values) == list(
            range(1, records.kept(trial, records.RESULT)["epochs"] + 1)
        )
        assert trial.params.keys() == {"rule", f"{trial.params['rule']}_lr"}
    assert not Path("studies.db.checkpoints").exists()


def test_a_search_that_is_not_given_the_hand_made_settings_has_none(run: Run) -> None:
    done = run(trials=4, hand_made=False)
    assert [trial.user_attrs.get(records.ORIGIN) for trial in done] == [None] * 4
    with pytest.raises(UserError, match=r"begins_with was \[\], now .*control"):
        run(trials=5)
    assert len(run(trials=5, hand_made=False)) == 5


def test_without_a_control_bad_trials_are_pruned_as_ever(run: Run) -> None:
    @dataclass(frozen=True)
    class Bare(Blobs):
        presets: ClassVar[dict[str, Settings]] = {}

    trained = Counter[str]()

    def listen(job: Job, news: OfTrial) -> None:
        trained[job.key] += isinstance(news, Trained) and not news.resumed

    done = run(trials=20, pipeline=Bare(), change=listen)
    pruned = [trial for trial in done if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < 4 for trial in pruned)
    # What is stopped is not trained on.
    assert trained.total() == spent(done)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_study_repeats_whichever_worker_speaks_first(seed: int, run: Run) -> None:
    first = run("first", trials=20, lanes=3, seed=0)
    assert course(run("second", trials=20, lanes=3, seed=seed)) == course(first)


def test_a_trial_that_later_results_wait_for_is_named_after_a_while(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("quick", lanes=3)
    assert "is slow" not in capsys.readouterr().out
    monkeypatch.setattr(slow, "SECONDS", 0.0)
    monkeypatch.setattr(slow, "EPOCHS", 0.0)
    run("slow", lanes=3)
    named = [line for line in capsys.readouterr().out.splitlines() if "is slow" in line]
    line = re.compile(r" +trial \d+ is slow (in epoch \d|to end); later results wait for it")
    assert named
    assert all(map(line.fullmatch, named))
    assert len(named) == len({*named})  # each is said once


class Interruptions:
    """Asks every run to stop once it has heard of `every` new epochs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
        self.heard, self.every, self.resumed = 0, every, 0
        monkeypatch.setattr(Stop, "soon", property(lambda stop: self.heard >= self.every))

    def __call__(self, job: Job, news: OfTrial) -> None:
        if isinstance(news, Trained):
            self.resumed += news.resumed
            self.heard += not news.resumed


@pytest.mark.parametrize("lanes", [1, 3])
def test_an_interrupted_study_resumes_every_trial_and_keeps_its_first_ones(
    lanes: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"trials": 8, "sampler": "random", "pruner": "none", "lanes": lanes}
    whole = run("whole", **options)
    interrupt = Interruptions(monkeypatch, every=3)
    done = run("parts", **options, change=interrupt)
    runs = 1
    while not all(trial.state in records.FINISHED for trial in done) or len(done) < 8:
        assert TrialState.RUNNING not in [trial.state for trial in done]
        interrupt.heard, runs = 0, runs + 1
        assert runs < 40
        done = run("parts", **options, change=interrupt)
    assert runs > 5
    assert interrupt.resumed > 1
    given = [trial for trial in done if trial.user_attrs.get(records.ORIGIN)]
    assert course(given) == course(whole[:2])  # a session draws other proposals
    for trial in done:
        assert list(trial.intermediate_values) == [1, 2, 3, 4]


def test_a_trial_that_continues_on_another_cpu_says_from_which_epoch_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = Interruptions(monkeypatch, every=2)
    old, new = {"device": "old"}, {"device": "new"}
    for processor in ("old", "new", "old"):  # two epochs on each, four a trial
        interrupt.heard = 0
        options: dict[str, Any] = {"lanes": 1, "pruner": "none", "change": interrupt}
        done = run(trials=3, pipeline=Blobs(processor=processor), **options)
    assert records.kept(done[0], records.TRAINED_ON) == [[3, new]]
    assert records.hardware_by_epoch(done[0], old) == {1: old, 3: new}
    assert records.kept(done[1], records.TRAINED_ON) is None
    interrupt.heard = 0
    done = run(trials=3, pipeline=Blobs(processor="new"), **options)
    assert records.kept(done[1], records.TRAINED_ON) == [[3, new]]
    assert records.other_hardware(done, old) == {"new": 2}


def test_a_trial_whose_state_is_lost_says_where_it_was_trained_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt = Interruptions(monkeypatch, every=2)
    for processor in ("old", "new", "old"):
        interrupt.heard = 0
        options: dict[str, Any] = {"lanes": 1, "pruner": "none", "change": interrupt}
        (done, *_) = run(trials=1, pipeline=Blobs(processor=processor), **options)
        for state in Path("studies.db.checkpoints").glob("*"):
            state.unlink()
        expected = {"old": [], "new": [[1, {"device": "new"}]]}[processor]
        assert records.kept(done, records.TRAINED_ON, []) == expected


def test_which_cases_were_right_in_the_last_epoch_is_stored_with_a_trial(run: Run) -> None:
    for trial in run(trials=8):
        bits = np.unpackbits(np.frombuffer(base64.b64decode(right_of(trial)), np.uint8))
        assert len(bits) == 200
        assert bits.mean() == list(trial.intermediate_values.values())[-1]


def test_a_pipeline_may_keep_to_itself_which_cases_were_right(run: Run) -> None:
    class Silent(Blobs):
        def train(self, settings: Settings, state: Path, key: str) -> Iterator[Any]:
            for epoch in super().train(settings, state, key):
                assert isinstance(epoch, Epoch)
                members = {**vars(epoch)}
                del members["right"]
                yield SimpleNamespace(**members)

    for trial in run(trials=2, pipeline=Silent()):
        assert "right" not in records.kept(trial, records.RESULT)


def test_an_interrupted_trial_keeps_its_number_settings_and_epochs(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = run(trials=2, lanes=1, change=Interruptions(monkeypatch, every=2))
    assert (first.number, first.state) == (0, TrialState.WAITING)
    assert list(first.intermediate_values) == [1, 2]
    assert records.ending(first) == "interrupted"
    (state,) = Path("studies.db.checkpoints").iterdir()
    heard: list[Trained] = []

    def listen(job: Job, news: OfTrial) -> None:
        assert job.state == state or job.behind == 0
        if isinstance(news, Trained):
            heard.append(news)

    monkeypatch.setattr(Stop, "soon", False)
    done = run(trials=2, lanes=1, change=listen)
    assert [(len(news.epochs), news.resumed) for news in heard[:3]] == [
        (2, True),
        (1, False),
        (1, False),
    ]
    assert done[0].params == first.params
    assert list(done[0].intermediate_values) == [1, 2, 3, 4]
    assert not state.exists()


def test_a_lost_state_is_reported_and_the_trial_trained_from_its_seed(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, *_) = run(trials=1, lanes=1, change=Interruptions(monkeypatch, every=2))
    for state in Path("studies.db.checkpoints").iterdir():
        state.unlink()
    monkeypatch.setattr(Stop, "soon", False)
    (again,) = [trial for trial in run(trials=1, lanes=1) if trial.number == 0]
    assert "trial 0: its checkpoint is missing" in capsys.readouterr().out
    repeated = dict(list(again.intermediate_values.items())[:2])
    assert repeated == first.intermediate_values
    assert len(again.intermediate_values) == 4


def test_a_trial_whose_worker_dies_once_continues_and_twice_in_an_epoch_fails(run: Run) -> None:
    deaths = Counter[str]()

    def kill(job: Job, news: OfTrial) -> Message | None:
        if not isinstance(news, Trained):
            return None
        always = job.settings["rule"] == "sign"
        if always or (news.epochs[-1].number == 3 and not deaths[job.key]):
            deaths[job.key] += 1
            return Died("its worker was ended by SIGSEGV", ())
        return None

    done = run(trials=1, lanes=2, pruner="none", change=kill)
    assert done[0].state == TrialState.COMPLETE
    assert list(done[0].intermediate_values) == [1, 2, 3, 4]
    with pytest.raises(UserError, match="3 trials failed the same way"):
        run(trials=20, lanes=2, pruner="none", change=kill)
    failed = [trial for trial in stored() if trial.state == TrialState.FAIL]
    assert {trial.params["rule"] for trial in failed} == {"sign"}
    assert len(failed) == 3
    for trial in failed:
        assert records.kept(trial, records.FAILURE)["reason"].endswith("twice in epoch 1")
    assert TrialState.RUNNING not in [trial.state for trial in stored()]


def test_memory_that_runs_out_ends_one_trial_and_the_study_learns_from_it(run: Run) -> None:
    def starve(job: Job, news: OfTrial) -> Message | None:
        return OutOfMemory("no room") if job.settings["rule"] == "sign" else None

    done = run(trials=8, change=starve)
    for trial in done:
        starved = trial.params["rule"] == "sign"
        assert (records.ending(trial) == "out of memory") == starved
        assert trial.state in records.FINISHED
    assert len(done) == 8


@pytest.mark.parametrize("fits_alone", [True, False])
def test_memory_that_runs_out_beside_others_counts_only_if_it_does_so_alone_as_well(
    run: Run, fits_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Counter[str]()
    crowds: list[int] = []

    def watched(schedule: Schedule, lane: int, trial: Trial) -> None:
        begin(schedule, lane, trial)
        if any(each.starved for each in schedule.running.values()):
            crowds.append(len(schedule.running))

    def starve(job: Job, news: OfTrial) -> Message | None:
        second = isinstance(news, Trained) and news.epochs[-1].number == 2
        if job.settings["rule"] != "sign" or not second:
            return None
        attempts[job.key] += 1
        if attempts[job.key] > 1 and fits_alone:
            return None
        return OutOfMemory("GET was unable to find an engine to execute this computation")

    begin = Schedule.begin
    monkeypatch.setattr(Schedule, "begin", watched)
    done = run(trials=8, lanes=3, shared=True, pruner="none", change=starve, checkpoints=Path("s"))
    assert len(done) == 8
    starved = [trial for trial in done if trial.params["rule"] == "sign"]
    assert set(attempts.values()) == {2}
    assert len(attempts) == len(starved)
    assert crowds == [1] * len(starved)
    for trial in starved:
        ending = records.ending(trial)
        assert ending == ("complete" if fits_alone else "out of memory")
        assert set(trial.intermediate_values) == ({1, 2, 3, 4} if fits_alone else {1})


def test_three_failures_of_a_kind_end_the_study_with_their_traceback(run: Run) -> None:
    def break_it(job: Job, news: OfTrial) -> Message:
        return Broken("ValueError at blobs.py:1", "Traceback: a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(trials=8, change=break_it)
    states = Counter(trial.state for trial in stored())
    assert states[TrialState.FAIL] == 3
    assert states[TrialState.RUNNING] == 0


def test_a_score_or_value_that_is_no_finite_number_ends_the_trial_as_diverged(run: Run) -> None:
    def diverge(job: Job, news: OfTrial) -> Message | None:
        if job.settings["rule"] == "sign" and isinstance(news, Trained):
            (epoch,) = news.epochs
            return Trained([Epoch(epoch.number, epoch.score, {"loss": float("nan")}, 0.01)])
        return None

    for trial in run(trials=6, change=diverge):
        diverged = trial.params["rule"] == "sign"
        assert (records.ending(trial) == "diverged") == diverged
        assert len(trial.intermediate_values) == 1 or not diverged


def test_a_pipeline_that_trains_on_past_its_epochs_is_stopped_after_them(run: Run) -> None:
    @dataclass(frozen=True)
    class Endless(Blobs):
        def train(self, settings: Settings, state: Path, key: str) -> Iterator[Any]:
            return super().train({**settings, "epochs": 99}, state, key)

    done = run(trials=3, pipeline=Endless())
    assert all(len(trial.intermediate_values) <= 4 for trial in done)
    assert len(done) == 3


def test_a_bug_of_ours_leaves_no_trial_running(run: Run) -> None:
    def bug(job: Job, news: OfTrial) -> Message | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(trials=3, change=bug)
    assert TrialState.RUNNING not in [trial.state for trial in stored()]


def test_the_score_is_the_mean_of_the_last_epochs_and_the_best_one_is_kept(run: Run) -> None:
    scores = {1: 0.9, 2: 0.1, 3: 0.2, 4: 0.6}

    def script(job: Job, news: OfTrial) -> Message | None:
        if not isinstance(news, Trained):
            return None
        (epoch,) = news.epochs
        return Trained(
            [replace(epoch, score=scores[epoch.number], values={"twice": 2 * epoch.number})]
        )

    trial, *_ = run(trials=1, change=script)
    result = records.result_of(trial)
    assert result is not None
    assert trial.value == result.score == pytest.approx(0.3)
    assert (result.best, result.epoch) == (0.9, 1)
    assert result.values == {"twice": pytest.approx(6.0)}
    assert SCORED == one_run.SCORED  # a trial and the training of its settings score alike


def test_a_trial_that_diverged_has_the_score_of_the_epochs_before(run: Run) -> None:
    scores = {1: 0.5, 2: 0.7, 3: math.nan}

    def script(job: Job, news: OfTrial) -> Message | None:
        if not isinstance(news, Trained):
            return None
        (epoch,) = news.epochs
        return Trained([replace(epoch, score=scores[epoch.number])])

    trial, *_ = run(trials=1, change=script)
    result = records.result_of(trial)
    assert result is not None
    assert result.ending == "diverged"
    assert result.score == pytest.approx(0.6)
    assert result.best == 0.7


def test_another_sampler_or_pruner_is_refused_or_noted_with_the_trial_from_which_it_holds(
    run: Run,
) -> None:
    run(trials=3)
    before = stored()
    with pytest.raises(UserError, match=r"sampler was tpe .*, now random.*--change-search"):
        run(trials=6, sampler="random")
    with pytest.raises(UserError, match=r"pruner was median \(.*\), now none"):
        run(trials=6, pruner="none")
    assert stored() == before
    done = run(trials=6, sampler="random", pruner="none", change_search=True)
    assert len(done) == 6
    storage = opening.open_to_read("sqlite:///studies.db")
    study = optuna.load_study(study_name="small", storage=storage)
    (change,) = records.kept(study, studies.SEARCH_CHANGES)
    assert (change["from_trial"], change["sampler"]) == (3, {"name": "random"})
    assert change["pruner"] == {"name": "none"}
    # From there on it is the study's own.
    assert len(run(trials=7, sampler="random", pruner="none")) == 7
    with pytest.raises(UserError, match="sampler was random, now tpe"):
        run(trials=8)


def test_settings_that_were_trained_are_not_trained_again(run: Run) -> None:
    first = run(trials=3)
    with closing(opening.open_database("sqlite:///studies.db")) as database:
        study = optuna.load_study(study_name="small", storage=database)
        study.enqueue_trial(first[1].params)
    started: list[Job] = []

    def note(job: Job, news: OfTrial) -> None:
        started.append(job)

    again = run(trials=4, change=note)
    assert not started
    assert again[3].intermediate_values == first[1].intermediate_values
    assert records.kept(again[3], records.RESULT)["repeats"] == 1


def test_what_killed_processes_left_of_a_finished_trial_is_removed_and_nothing_else(
    run: Run,
) -> None:
    folder = Path("states")
    folder.mkdir()
    (folder / "film.part").touch()
    left: list[Path] = []

    def killed_before(job: Job, news: OfTrial) -> None:
        left.append(job.state.with_suffix(".4711.part"))
        left[-1].touch()

    done = run(trials=3, change=killed_before, checkpoints=folder)
    assert len(done) == 3
    assert len(left) > 3
    # Whoever names a folder of his own keeps what is his in it.
    assert [path.name for path in folder.iterdir()] == ["film.part"]


@pytest.mark.parametrize("seed", range(4))
def test_one_death_of_a_process_with_many_lanes_fails_no_trial(seed: int, run: Run) -> None:
    deaths: list[str] = []

    def kill_once(job: Job, news: OfTrial) -> Message | None:
        if isinstance(news, Trained) and news.epochs[-1].number == 2 and not deaths:
            deaths.append(job.key)
            return Died("its worker was ended by SIGKILL", ())
        return None

    options = {"trials": 9, "lanes": 4, "shared": True, "pruner": "none"}
    done = run(seed=seed, change=kill_once, **options)
    assert len(deaths) == 1
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 9
    assert all(list(trial.intermediate_values) == [1, 2, 3, 4] for trial in done)


def test_a_search_without_presets_prunes(run: Run) -> None:
    @dataclass(frozen=True)
    class Bare(Blobs):
        presets: ClassVar[dict[str, Settings]] = {}

    done = run(trials=20, pipeline=Bare())
    assert Counter(trial.state for trial in done)[TrialState.PRUNED] > 2


@dataclass(frozen=True)
class Long(Blobs):
    """Epochs enough for a trial to be stopped long before its end."""

    epochs: int = 9


def test_screening_trains_the_best_of_the_stopped_trials_on_from_their_states(run: Run) -> None:
    began: dict[str, list[int]] = defaultdict(list)  # epochs that each key trained, by key
    files: list[int] = []

    def listen(job: Job, news: OfTrial) -> None:
        if isinstance(news, Trained) and not news.resumed:
            began[job.key] += [epoch.number for epoch in news.epochs]
        files.append(len(list(job.state.parent.glob("*.state"))))

    done = run(trials=21, lanes=2, pipeline=Long(), pruner="screen", change=listen)
    assert len(done) == 21
    chances = [trial for trial in done if records.kept(trial, records.CONTINUES) is not None]
    assert [trial.number for trial in chances] == [18, 19, 20]  # one for every six
    for trial in chances:
        first = done[records.kept(trial, records.CONTINUES)]
        assert (first.state, trial.state) == (TrialState.PRUNED, TrialState.COMPLETE)
        assert first.params == trial.params
        assert first.user_attrs.get(records.ORIGIN) == trial.user_attrs.get(records.ORIGIN)
        assert list(first.intermediate_values) == [1, 2, 3]
        assert list(trial.intermediate_values) == list(range(1, 10))
        assert (
            list(first.intermediate_values.items()) == list(trial.intermediate_values.items())[:3]
        )
    # No epoch was trained twice, and those that went on were ahead of those that did not.
    assert all(epochs == list(range(1, len(epochs) + 1)) for epochs in began.values())
    taken = {records.kept(trial, records.CONTINUES) for trial in chances}
    scores = {
        trial.number: score_of(list(trial.intermediate_values.values()))
        for trial in done[:18]
        if trial.state == TrialState.PRUNED
    }
    assert min(scores[number] for number in taken) >= max(
        score for number, score in scores.items() if number not in taken
    )
    assert max(files) <= 3 + 2  # the chances' and the running trials'
    assert not Path("studies.db.checkpoints").exists()
    assert spent(done) == sum(map(len, began.values()))


def test_an_extended_budget_is_kept_though_the_states_are_gone(run: Run) -> None:
    trained = Counter[str]()

    def listen(job: Job, news: OfTrial) -> None:
        if isinstance(news, Trained) and not news.resumed:
            trained[job.key] += len(news.epochs)

    for limit in (60, 93, 120):
        options: dict[str, Any] = {"trials": None, "budget_epochs": limit, "pruner": "screen"}
        done = run(pipeline=Long(), change=listen, **options)
        assert limit - 9 < trained.total() <= limit
        assert spent(done) == trained.total()


def test_a_second_chance_keeps_its_state_whoever_else_is_stopped(run: Run) -> None:
    lost: list[Path] = []

    def watch(job: Job, news: OfTrial) -> None:
        if job.behind == 0 and isinstance(news, Trained) and news.epochs[-1].number > 1:
            lost.extend([] if job.state.exists() else [job.state])

    for lanes in (2, 4):
        options: dict[str, Any] = {"trials": 40, "pipeline": Long(), "pruner": "screen"}
        done = run(f"{lanes}", lanes=lanes, change=watch, **options)
        chances = [each for each in done if records.kept(each, records.CONTINUES) is not None]
        assert {records.kept(each, records.CONTINUES_FROM) for each in chances} == {3}
        first = {records.kept(each, records.CONTINUES) for each in chances}
        assert len(first) == len(chances)
    assert not lost


def test_screening_ends_with_a_whole_trial_however_few_there_are(run: Run) -> None:
    for trials in (1, 2, 5, 6):
        done = run(
            f"{trials}", trials=trials, pipeline=Long(), pruner="screen", hand_made=False, lanes=1
        )
        assert len(done) == trials
        assert TrialState.COMPLETE in [trial.state for trial in done] or trials == 1


@pytest.mark.parametrize("pruner", ["median", "screen"])
def test_the_judge_replays_what_a_search_does(pruner: str, run: Run) -> None:
    options: dict[str, Any] = {"lanes": 1, "sampler": "random", "pipeline": Long()}
    whole = run("whole", trials=40, pruner="none", **options)
    search = run("stopped", trials=42 if pruner == "median" else 46, pruner=pruner, **options)
    proposed = [trial for trial in search if records.kept(trial, records.CONTINUES) is None]
    assert len(proposed) == 40
    assert [trial.params for trial in proposed] == [trial.params for trial in whole]
    spent = [len(trial.intermediate_values) for trial in proposed]
    for trial in search[40:]:
        spent[records.kept(trial, records.CONTINUES)] = len(trial.intermediate_values)
    assert RULES[pruner](curves_of(whole, [])).tolist() == spent
    assert min(spent) < 9


def test_a_second_chance_that_is_interrupted_continues(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"trials": 7, "lanes": 1, "pipeline": Long(), "pruner": "screen"}
    whole = run("whole", sampler="random", **options)
    interrupt = Interruptions(monkeypatch, every=29)  # 9 epochs, 5 x 3, then the second chance
    done = run("parts", sampler="random", change=interrupt, **options)
    assert records.ending(done[6]) == "interrupted"
    assert records.kept(done[6], records.CONTINUES) == records.kept(whole[6], records.CONTINUES)
    interrupt.heard = 0
    done = run("parts", sampler="random", change=interrupt, **options)
    assert course(done) == course(whole)


def test_the_budget_of_epochs_is_never_exceeded_and_nearly_spent(run: Run) -> None:
    for pruner, limit in [("none", 40), ("screen", 100), ("median", 150)]:
        trained = Counter[str]()

        def listen(job: Job, news: OfTrial, trained: Counter[str] = trained) -> None:
            if isinstance(news, Trained) and not news.resumed:
                trained[job.key] += len(news.epochs)

        options = {"trials": None, "budget_epochs": limit, "pruner": pruner, "sampler": "random"}
        done = run(pruner, pipeline=Long(), change=listen, **options)
        assert limit - 9 < trained.total() <= limit
        assert spent(done) == trained.total()
        assert all(trial.state.is_finished() for trial in done)
        if pruner != "none":
            assert any(records.kept(trial, records.CONTINUES) is not None for trial in done)
        assert course(
            run(
                pruner,
                trials=None,
                budget_epochs=limit,
                pipeline=Long(),
                pruner=pruner,
                sampler="random",
            )
        ) == course(done)


def test_a_budget_that_is_too_small_for_a_trial_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match="must be at least the epochs of a trial, 4"):
        run(trials=None, budget_epochs=3)
    assert not Path("studies.db").exists()


def test_values_and_settings_that_only_some_epochs_and_trials_have_are_kept(run: Run) -> None:
    @dataclass(frozen=True)
    class Uneven(Blobs):
        base: ClassVar[Settings] = {}
        space: ClassVar[dict[str, Any]] = {
            **Blobs.space,
            "sign_decay": Only("rule", "sign", "decay", FloatDistribution(0.0, 1.0)),
        }

        def train(self, settings: Settings, state: Path, key: str) -> Iterator[Any]:
            for epoch in super().train(settings, state, key):
                assert isinstance(epoch, Epoch)
                extra = {"gap": 0.1} if epoch.number == 2 else {}
                yield replace(epoch, values={**epoch.values, **extra})

    done = run(trials=6, pipeline=Uneven(), pruner="none")
    assert len(done) == 6
    for trial in done:
        assert ("decay" in records.kept(trial, records.CONFIG)) == (trial.params["rule"] == "sign")
        gaps = records.kept(trial, records.RESULT)["curves"]["gap"]
        assert [gap is None for gap in gaps] == [True, False, True, True]  # NaN, as JSON has it
