"""Run a study from its pipeline and spec: identity, database, workers, the loop."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from fer.errors import UserError
from fer.output import say
from study.engine.asking import misfit
from study.engine.budget import Budget, spent
from study.engine.cost import CROWD
from study.engine.display import HANG, Display
from study.engine.hiring import Hire, hiring
from study.engine.loop import Loop, Outcome
from study.engine.plan import make_forecast, plan_lines
from study.engine.pruners import (
    CHANCES,
    describe_pruner,
    earliest_pruning,
    expected_share,
    make_pruner,
)
from study.engine.queue import Queue
from study.engine.race import Race, Rule
from study.engine.samplers import ROWS, RowSampler, describe_sampler, make_sampler
from study.engine.schedule import Schedule
from study.engine.stop import Stop
from study.options import Running, Search, Seeds
from study.pipeline import Only, Pipeline
from study.spec.code import commit_of
from study.spec.identity import (
    IDENTITY,
    Identity,
    hardware_in_words,
    hardware_of,
    identity_of,
    study_name,
)
from study.spec.spec import Spec
from study.storage import opening, studies
from study.storage.artifacts import Show
from study.storage.leases import next_session
from study.storage.owned import OwnedDatabase
from study.storage.records import ending, finished, kept, scored
from study.storage.rescue import saved_if_lost
from study.storage.retry import DatabaseAway
from study.words import counted
from study.workers.pool import Started, default_lanes

STOP_SECONDS = 5.0  # to wait for an unreachable database after the first signal


@dataclass(frozen=True)
class Request:
    """A request to run or continue a study until it has its trials or has spent its epochs.

    `name` is the study's name, by default derived from its identity; `command` is stored with
    the study. No epoch starts after `deadline` (monotonic clock). In a comparison with a `race`,
    settings that are clearly beaten are not trained further.
    """

    pipeline: Pipeline
    spec: Spec
    running: Running
    search: Search
    name: str | None = None
    command: str = ""
    deadline: float = math.inf
    spare: list[Started] | None = None  # worker processes already started
    show: Callable[[Identity, optuna.Study], Show] = lambda identity, study: lambda *_: None
    """What a dashboard shows of the study's trials."""
    race: Rule | None = None

    @classmethod
    def of_comparison(cls, pipeline: Pipeline, spec: Spec, running: Seeds, **rest: Any) -> Self:
        """Request a comparison of the spec's queue, without pruning."""
        return cls(pipeline, spec, running, running.unpruned(len(spec.queue)), **rest)

    def identity(self) -> Identity:
        """Return what the study's results depend on, including sampler and pruner."""
        spec, search = self.spec, self.search
        if spec.variants:  # a comparison: fixed rows, no pruning
            pruner = describe_pruner("none", spec.epochs, ())
            return identity_of(self.pipeline, spec, ROWS, pruner)
        by = [name for name in self.pipeline.curves_by if name in spec.space]
        pruner = describe_pruner(search.pruner, spec.epochs, by)
        return identity_of(self.pipeline, spec, describe_sampler(search.sampler), pruner)


@dataclass(frozen=True)
class Conducted:
    """Name of the study, and the exit code: 0, or that of the signal that stopped it."""

    name: str
    exit_code: int


def conduct(request: Request, conclude: Callable[[optuna.Study], None]) -> Conducted:
    """Run or continue a study, then call `conclude` with it unless a signal stopped it.

    Raises UserError if it cannot be continued as requested.
    """
    running, total, spec = request.running, request.search.total, request.spec
    limit = request.search.budget_epochs
    if limit is not None and limit < spec.epochs:
        raise UserError(
            f"--budget-epochs must be at least the epochs of a trial, {spec.epochs}, got {limit}"
        )
    folder = running.checkpoints or opening.checkpoints_beside(running.storage)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--checkpoints must be a folder, got the file {folder}")
    identity = request.identity()
    name = request.name or study_name(request.pipeline.name, spec, identity)
    budget = budget_of(request, identity)
    display = Display(total, limit, spec.epochs, spec.space, search=not spec.variants)
    with Stop(request.deadline) as stop, hiring(request.pipeline, spec, running) as hire:
        database = opening.open_database(running.storage, total, waiter(stop, display))
        with closing(database):
            stop.gently()
            study = open_study(request, name, identity, database)
            elsewhere = {}
            if spec.variants:  # a search uses only its own trials
                elsewhere = studies.trained_elsewhere(database, name, identity)
            again = request.search.duplicates == "train"
            outcome: Outcome = "finished"
            with saved_if_lost(study, database):
                queue = Queue(
                    *(study, database, spec, identity, folder, elsewhere, display, budget),
                    train_again=again,
                    race=race_of(request, identity),
                )
                queue.take_over()
                if queue.exhausted or (total is not None and len(finished(study)) >= total):
                    say(f"       nothing left to train; for more, raise {bound_of(request)}", HANG)
                else:
                    outcome = train(
                        request, identity, study, database, queue, budget, hire, stop, display
                    )
            if outcome != "finished":
                say_stopped(study, total)
            if outcome != "interrupted":  # after a signal, exit without the summary
                conclude(study)
    return Conducted(name, stop.exit_code if outcome == "interrupted" else 0)


def bound_of(request: Request) -> str:
    """Return the option that bounds the study."""
    if request.spec.variants:
        return "--seeds"
    return "--trials" if request.search.budget_epochs is None else "--trials or --budget-epochs"


def say_stopped(study: optuna.Study, total: int | None) -> None:
    """Print what a stopped study has stored, and how to continue it."""
    begun = [ending(trial) for trial in study.get_trials(deepcopy=False)].count("interrupted")
    of = "" if total is None else f" of {total}"
    rest = f", and the epochs of {counted(begun, 'interrupted trial')}" if begun else ""
    say(f"stopped with {len(finished(study))}{of} trials finished and stored{rest}")
    say("run the same command to continue")


def budget_of(request: Request, identity: Identity) -> Budget:
    """Return what the study may spend."""
    name, epochs = identity["pruner"]["name"], request.spec.epochs
    search = request.search
    return Budget(
        epochs, search.total, search.budget_epochs, CHANCES[name], earliest_pruning(name, epochs)
    )


def race_of(request: Request, identity: Identity) -> Race | None:
    """Return the race among the settings of a comparison, or None.

    Assumes the number of workers that a study with all its trials to go would have, so that the
    decisions do not change when it is continued.
    """
    if request.race is None:
        return None
    at_once = request.running.workers or default_lanes(request.pipeline)
    return Race(request.spec, identity, request.race, at_once)


def waiter(stop: Stop, display: Display) -> Callable[[str, float], None]:
    """Return what to do while the database is unreachable: display it, and allow a stop."""

    def wait(reason: str, seconds: float) -> None:
        display.waiting(reason, seconds)
        if stop.now or (stop.soon and seconds > STOP_SECONDS):
            raise DatabaseAway(
                f"stopped while the storage is unreachable: {reason}; what was stored is safe, "
                "run the same command to continue"
            )

    return wait


def open_study(
    request: Request, name: str, identity: Identity, database: OwnedDatabase
) -> optuna.Study:
    """Create the study `name` with its queue, or open it to continue, and print its state."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = request.spec
    waiting = [studies.waiting(parameters, origin) for origin, parameters in spec.queue.items()]
    study_id, new = studies.begin_or_check(
        database,
        name,
        identity,
        waiting,
        command=request.command,
        commit=commit_of(request.pipeline),
        change_search=request.search.change_search,
    )
    database.work_on(study_id, lambda trial: misfit(trial, spec))
    study = optuna.load_study(
        study_name=name,
        storage=database,
        sampler=sampler_of(spec, identity, next_session(database, study_id)),
        pruner=make_pruner(identity["pruner"], database.complete(study_id)),
    )
    studies.requeue_abandoned(study, database)
    trials = study.get_trials(deepcopy=False)
    state = "new" if new else f"{counted(len(finished(study)), 'trial')} finished"
    say(f"study  {name}, {state}, in {opening.hidden(request.running.storage)}", HANG)
    begun_on, here = hardware_of(kept(study, IDENTITY)), hardware_of(identity)
    if begun_on != here:
        words = hardware_in_words(begun_on), hardware_in_words(here)
        moved = f"       started on {words[0]}; now on {words[1]}: rounding may differ"
        say(f"{moved}; trials record it", HANG)
    interrupted = [ending(trial) for trial in trials].count("interrupted")
    if interrupted:
        begun = counted(interrupted, "interrupted trial")
        say(f"       resuming {begun} from the last epoch", HANG)
    running = [trial.state for trial in trials].count(TrialState.RUNNING)
    if running:
        say(f"       joining other processes, which run {counted(running, 'trial')}", HANG)
    if new and (other := studies.similar(database, name, identity)):
        say(f"       study {other} differs only in code or packages and is not continued", HANG)
    return study


def sampler_of(spec: Spec, identity: Identity, session: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for this process, which is number `session` of the study."""
    if not spec.variants:
        return make_sampler(identity["sampler"]["name"], spec.seed, session)
    space: dict[str, BaseDistribution] = {
        name: kind for name, kind in spec.space.items() if not isinstance(kind, Only)
    }
    return RowSampler(list(spec.queue.values()), space)


def train(
    request: Request,
    identity: Identity,
    study: optuna.Study,
    database: OwnedDatabase,
    queue: Queue,
    budget: Budget,
    hire: Hire,
    stop: Stop,
    display: Display,
) -> Outcome:
    """Start workers, print the plan once their speed is known, and train what is left."""
    pipeline, spec, running = request.pipeline, request.spec, request.running
    if request.command:
        study.set_user_attr(studies.COMMAND, request.command)
    pruner: dict[str, Any] = identity["pruner"]
    trials = study.get_trials(deepcopy=False)
    remaining = budget.trials_left(trials, expected_share(pruner["name"], spec.epochs))
    known = min(queue.known(), remaining)
    new = remaining - known - queue.spared()
    epochs = None if budget.limit is None else budget.limit - spent(trials)

    def say_plan(at_once: int, pace: float | None) -> None:
        forecast = make_forecast(study, spec, pruner, new, at_once, pace, epochs)
        display.expect(forecast)
        search = None if spec.variants else identity
        for line in plan_lines(forecast, pipeline.about, known, search):
            display.print(line)

    for trial, _ in scored(study):
        if trial.state == TrialState.COMPLETE:
            display.better(trial.value or 0.0, trial.number)
    with hire(max(1, new), request.spare) as pool, display:
        processes = {lane: pool.process_of(lane) for lane in range(len(pool))}
        # An explicit --workers is honoured as far as memory allows.
        schedule = Schedule(processes, pipeline.cost, math.inf if running.workers else CROWD)
        loop = Loop(
            study=study,
            database=database,
            spec=spec,
            queue=queue,
            total=budget.trials,
            earliest_pruning=budget.earliest,
            workers=pool,
            schedule=schedule,
            stop=stop,
            display=display,
            say_plan=say_plan,
            show=request.show(identity, study),
            hardware=hardware_of(kept(study, IDENTITY)),
        )
        return loop.run()
