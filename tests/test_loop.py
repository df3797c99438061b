"""The loop without processes: a pipeline in NumPy, trained by scripted workers in this one."""

import base64
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from fer.errors import UserError
from study.engine import conduct
from study.engine.conduct import Request
from study.engine.stop import Stop
from study.options import Running, Search
from study.pipeline import Epoch, Only, Pipeline, Settings
from study.spec.spec import searching
from study.storage import records, studies
from study.workers.messages import (
    Broken,
    Died,
    Done,
    Job,
    Message,
    OfTrial,
    OutOfMemory,
    Ready,
    Trained,
)
from study.workers.worker import train
from tests.blobs import Blobs

Change = Callable[[Job, OfTrial], Message | None]


@dataclass
class Scripted:
    """Workers that train in this process, one lane after another in an order that is drawn.

    `change` may put another message in the place of what a trial has to say.
    """

    pipeline: Pipeline
    lanes: int
    order: random.Random = field(default_factory=lambda: random.Random(0))
    change: Change = lambda job, news: None
    shared: bool = False  # whether all lanes are of one process
    jobs: dict[int, Job] = field(default_factory=dict)
    training: dict[int, Iterator[Any]] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)  # lanes
    dead: set[int] = field(default_factory=set)  # processes whose end is not told yet
    news: dict[int, deque[Message]] = field(default_factory=lambda: defaultdict(deque))

    def __enter__(self) -> "Scripted":
        for lane in range(self.lanes):
            self.news[lane].append(Ready(0.01))
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def process_of(self, lane: int) -> int:
        return 0 if self.shared else lane

    def start(self, lane: int, job: Job) -> None:
        if self._hears(lane):
            self.jobs[lane], self.training[lane] = job, train(self.pipeline.open("cpu"), job)
            self._go_on(lane)

    def answer(self, lane: int, go_on: bool) -> None:
        if self._hears(lane):
            if not go_on:
                self.training[lane].close()  # type: ignore[attr-defined]
            self._go_on(lane)

    def _hears(self, lane: int) -> bool:
        """Whether the lane's process lives; what is sent to a dead one is lost."""
        lives = self.process_of(lane) not in self.dead
        assert lane in self.ready or not lives, "a message for a process that is not ready"
        return lives

    def _go_on(self, lane: int) -> None:
        said = next(self.training[lane], Done())
        changed = self.change(self.jobs[lane], said) or said
        if isinstance(changed, Died):
            process = self.process_of(lane)
            lanes = [each for each in range(self.lanes) if self.process_of(each) == process]
            for each in lanes:
                self.news[each].clear()
            self.dead.add(process)
            changed = replace(changed, lanes=lanes)
        self.news[lane].append(changed)

    def messages(self, timeout: float) -> Iterator[tuple[int, Message]]:
        lanes = [lane for lane, news in self.news.items() if news]
        if not lanes:
            return
        lane = self.order.choice(lanes)
        message = self.news[lane].popleft()
        if isinstance(message, Died):  # another process begins
            self.dead.discard(self.process_of(lane))
            self.ready -= {*message.lanes}
            for each in message.lanes:
                self.news[each].append(Ready(None))
        elif isinstance(message, Ready):
            self.ready.add(lane)
        yield lane, message


Run = Callable[..., list[FrozenTrial]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Conduct a search with scripted workers; the trials that are stored then."""

    def call(
        folder: str = ".",
        trials: int = 12,
        lanes: int = 2,
        seed: int = 0,
        change: Change = lambda job, news: None,
        deadline: float = float("inf"),
        pipeline: Blobs = Blobs(),  # noqa: B008
        checkpoints: Path | None = None,
        shared: bool = False,
        **search: Any,
    ) -> list[FrozenTrial]:
        Path(folder).mkdir(exist_ok=True)
        order = random.Random(seed)
        monkeypatch.setattr(
            conduct,
            "Pool",
            lambda pipeline, lanes, examples, spare: Scripted(
                pipeline, lanes, order, change, shared
            ),
        )
        running = Running(
            storage=f"sqlite:///{folder}/studies.db", workers=lanes, checkpoints=checkpoints
        )
        request = Request(
            pipeline,
            searching(pipeline, "blobs", None, 0),
            running,
            Search(trials=trials, **search),
            name="small",
            deadline=deadline,
        )
        conduct.conduct(request, lambda study: None)
        return stored(folder)

    return call


def stored(folder: str = ".") -> list[FrozenTrial]:
    storage = studies.open_to_read(f"sqlite:///{folder}/studies.db")
    return optuna.load_study(study_name="small", storage=storage).get_trials()


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
            range(1, trial.user_attrs[records.RESULT]["epochs"] + 1)
        )
        assert trial.params.keys() == {"rule", f"{trial.params['rule']}_lr"}
    assert not Path("studies.db.checkpoints").exists()


def test_without_a_control_bad_trials_are_pruned_as_ever(run: Run) -> None:
    @dataclass(frozen=True)
    class Bare(Blobs):
        presets: ClassVar[dict[str, Settings]] = {}

    trained = Counter[str]()

    def listen(job: Job, news: OfTrial) -> None:
        trained[job.key] += isinstance(news, Trained)

    done = run(trials=20, pipeline=Bare(), change=listen)
    pruned = [trial for trial in done if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < 4 for trial in pruned)
    # What is stopped is not trained on.
    assert sum(trained.values()) == sum(len(trial.intermediate_values) for trial in done)


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_study_repeats_whichever_worker_speaks_first(seed: int, run: Run) -> None:
    first = run("first", trials=20, lanes=3, seed=0)
    assert course(run("second", trials=20, lanes=3, seed=seed)) == course(first)


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
def test_a_study_that_is_interrupted_again_and_again_is_the_one_that_was_not(
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
        assert "right" not in trial.user_attrs[records.RESULT]


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


def test_a_lost_state_is_said_and_the_trial_trained_from_its_seed(
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


def test_a_trial_whose_worker_dies_once_goes_on_and_twice_in_an_epoch_fails(run: Run) -> None:
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
    with pytest.raises(UserError, match="3 trials failed alike"):
        run(trials=20, lanes=2, pruner="none", change=kill)
    failed = [trial for trial in stored() if trial.state == TrialState.FAIL]
    assert {trial.params["rule"] for trial in failed} == {"sign"}
    assert len(failed) == 3
    for trial in failed:
        assert trial.user_attrs[records.FAILURE]["reason"].endswith("twice in epoch 1")
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
    storage = studies.open_to_read("sqlite:///studies.db")
    attributes = optuna.load_study(study_name="small", storage=storage).user_attrs
    (change,) = attributes[studies.SEARCH_CHANGES]
    assert (change["from_trial"], change["sampler"]) == (3, {"name": "random"})
    assert change["pruner"] == {"name": "none"}
    # From there on it is the study's own.
    assert len(run(trials=7, sampler="random", pruner="none")) == 7
    with pytest.raises(UserError, match="sampler was random, now tpe"):
        run(trials=8)


def test_settings_that_were_trained_are_not_trained_again(run: Run) -> None:
    first = run(trials=3)
    with closing(studies.open_database("sqlite:///studies.db")) as database:
        study = optuna.load_study(study_name="small", storage=database)
        study.enqueue_trial(first[1].params)
    started: list[Job] = []

    def note(job: Job, news: OfTrial) -> None:
        started.append(job)

    again = run(trials=4, change=note)
    assert not started
    assert again[3].intermediate_values == first[1].intermediate_values
    assert again[3].user_attrs[records.RESULT]["repeats"] == 1


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
        assert ("decay" in trial.user_attrs[records.CONFIG]) == (trial.params["rule"] == "sign")
        gaps = trial.user_attrs[records.RESULT]["curves"]["gap"]
        assert [math.isnan(gap) for gap in gaps] == [True, False, True, True]
