"""The study loop: ask for settings, train them in workers, report every epoch, prune, tell."""

import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from fer import data
from fer.config import Config
from fer.device import choose, in_words, settle
from fer.fit import Epoch
from fer.kernels import load
from study import storage as store
from study.algorithms import (
    STARTUP_TRIALS,
    earliest_pruning,
    expected_share,
    make_pruner,
    make_sampler,
)
from study.database import Database
from study.display import Display, Finished, describe_duration, next_commands, summary
from study.forecast import Forecast
from study.run import Options
from study.space import HAND_TUNED, SPACES, describe, examples, hand_made, suggest
from study.workers import Broken, Done, Ready, Workers, default_workers

DEMO_EPOCHS, EPOCHS = 5, 30
LONG = 2 * 3600  # seconds from which the plan names the options that shorten it

Ending = Literal["finished", "timeout", "interrupted"]


@dataclass
class Running:
    """A trial in a worker."""

    trial: optuna.Trial
    config: Config
    origin: str
    known: frozenset[int]  # epochs stored before it was interrupted
    start: float = field(default_factory=time.monotonic)
    epochs: list[Epoch] = field(default_factory=list)
    stopped: bool = False  # told to stop early

    @property
    def best(self) -> Epoch:
        return max(self.epochs, key=lambda epoch: epoch.accuracy)


def search(options: Options) -> None:
    """Run or continue a study until `options.trials` of its trials are finished."""
    device = choose(options.device)
    most = min(options.workers or default_workers(device), options.trials)
    with Workers(most, device) as workers:
        dataset = data.load(options.data, options.remove)
        epochs = options.epochs or (DEMO_EPOCHS if dataset.name == "demo" else EPOCHS)
        training, validation = data.split(dataset.part("Training"), options.split, options.subset)
        # One thread a trial, whatever runs beside it: another number rounds sums differently.
        base = settle(
            Config(epochs=epochs, seed=options.seed, precision=options.precision, threads=1),
            device,
        )
        space = SPACES[options.space]
        identity: store.Identity = {
            "data": dataset.name,
            "data_sha256": dataset.sha256,
            "classes": list(dataset.classes),
            "split": options.split,
            "subset": options.subset,
            "space": options.space,
            "space_definition": describe(space),
            "epochs": epochs,
            "seed": options.seed,
            "precision": base.precision,
            "kernels": load().name if device.type == "cpu" else "PyTorch's",
        }
        with closing(store.open_database(options.storage)) as database:
            study = open_study(database, dataset.name, identity, options)
            finished = len(store.finished(study))
            ending: Ending = "finished"
            if finished < options.trials:
                remaining = options.trials - finished
                count = min(most, remaining)
                plan = (
                    f"plan   {remaining} trials x {epochs} epochs of {len(training)} training "
                    f"and {len(validation)} validation images of {dataset.name} "
                    f"({options.split} split) on {in_words(device, base)}, {count} at once"
                )
                workers.begin(count, training, validation, examples(space, base, options.seed))
                ending = run_trials(study, options, base, space, workers, plan)
            if ending != "finished":
                print(
                    f"stopped with {len(store.finished(study))} of {options.trials} trials "
                    "finished; the same command continues"
                )
            summary(study, len(validation))
            next_commands(study, options)
    if ending == "interrupted":
        sys.exit(130)


def open_study(
    database: Database, data_name: str, identity: store.Identity, options: Options
) -> optuna.Study:
    """The study of `options`, begun with the report's settings or continued."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = options.study or store.study_name(data_name, identity)
    study, new = store.open_study(database, name, identity)
    if new:
        for origin, parameters in hand_made(SPACES[options.space]):
            study.enqueue_trial(parameters, user_attrs={store.ORIGIN: origin})
    requeued = store.requeue_abandoned(study)
    study.sampler = make_sampler(
        options.sampler, options.seed, len(study.get_trials(deepcopy=False))
    )
    study.pruner = make_pruner(
        options.pruner, identity["epochs"], database.complete[study._study_id]
    )
    finished = len(store.finished(study))
    print(
        f"study  {name}, {'new' if new else f'{finished} trials finished'}, "
        f"in {store.hidden(options.storage)}"
    )
    if requeued:
        print(f"       {requeued} interrupted trials are trained again")
    return study


def run_trials(
    study: optuna.Study,
    options: Options,
    base: Config,
    space: dict[str, Any],
    workers: Workers,
    plan: str,
) -> Ending:
    """Train trials until the study has its total, the time is up, or someone interrupts."""
    finished = len(store.finished(study))
    deadline = time.monotonic() + options.timeout if options.timeout else float("inf")
    epoch_seconds: dict[int, float] = {}
    running: dict[int, Running] = {}
    idle: set[int] = set()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    display = Display(options.trials, finished, base.epochs, _best_so_far(study))
    try:
        # The plan waits until every worker has measured its speed beside the others.
        with display:
            display.note("starting workers and measuring their speed")
            while len(epoch_seconds) < len(workers):
                for worker, message in workers.messages(timeout=1):
                    assert isinstance(message, Ready), message
                    epoch_seconds[worker] = message.epoch_seconds
                    idle.add(worker)
            measured = sum(epoch_seconds.values()) / len(workers)
            display.forecast = forecast(study, options, base.epochs, len(workers), measured)
            print_plan(display, plan, options.pruner)
            while finished < options.trials:
                if time.monotonic() > deadline:
                    return "timeout"
                while idle and finished + len(running) < options.trials:
                    worker = min(idle)
                    idle.remove(worker)
                    running[worker] = ask(study, space, base)
                    workers.start(worker, running[worker].config)
                    display.started(worker, running[worker].trial.number)
                for worker, message in workers.messages(timeout=0.5):
                    run = running[worker]
                    match message:
                        case Epoch():
                            run.epochs.append(message)
                            run.stopped = report(run, message)
                            workers.answer(worker, go_on=not run.stopped)
                            display.epoch(worker, message)
                        case Done():
                            del running[worker]  # first: once told, it can't be put back
                            display.finished(worker, tell(study, run))
                            idle.add(worker)
                            finished += 1
                        case Broken():
                            raise RuntimeError(
                                f"trial {run.trial.number} failed with {run.config.settings()}:\n"
                                + message.traceback
                            )
                display.tick()
        return "finished"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        for run in running.values():
            store.requeue(study, run.trial._trial_id)
        signal.signal(signal.SIGTERM, previous)


def ask(study: optuna.Study, space: dict[str, Any], base: Config) -> Running:
    """The next trial of the study, its settings stored before it trains."""
    trial = study.ask()
    config = suggest(trial, space, base)
    trial.set_user_attr(store.CONFIG, config.settings())
    known = study._storage.get_trial(trial._trial_id).intermediate_values
    return Running(trial, config, trial.user_attrs.get(store.ORIGIN, ""), frozenset(known))


def report(run: Running, epoch: Epoch) -> bool:
    """Store an epoch's accuracy; whether the trial should stop early."""
    if epoch.number not in run.known:
        run.trial.report(epoch.accuracy, epoch.number)
    if epoch.diverged:
        return True
    # The report's final settings run to the end: the search is measured against them.
    return run.origin != HAND_TUNED and run.trial.should_prune()


def tell(study: optuna.Study, run: Running) -> Finished:
    """Store a finished trial: its best accuracy over the epochs, and what belongs to it."""
    best = run.best
    diverged = run.epochs[-1].diverged
    pruned = (run.stopped and len(run.epochs) < run.config.epochs) or diverged
    seconds = time.monotonic() - run.start
    run.trial.set_user_attr(
        store.RESULT,
        {
            "accuracy": best.accuracy,
            "epoch": best.number,
            "macro_f1": best.macro_f1,
            "balanced_accuracy": best.balanced_accuracy,
            "epochs": len(run.epochs),
            "seconds": round(seconds, 2),
            "diverged": diverged,
        },
    )
    if pruned:
        study.tell(run.trial, state=TrialState.PRUNED)
    else:
        study.tell(run.trial, best.accuracy)
    return Finished(
        number=run.trial.number,
        state="diverged" if diverged else "pruned" if pruned else "complete",
        accuracy=best.accuracy,
        epoch=best.number,
        epochs=len(run.epochs),
        config=run.config,
        origin=run.origin,
        seconds=seconds,
    )


def forecast(
    study: optuna.Study, options: Options, epochs: int, workers: int, epoch_seconds: float
) -> Forecast:
    """What is left of the study, at the measured seconds an epoch."""
    trials = study.get_trials(deepcopy=False)
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    # The median pruner waits for some complete trials, the others spare the report's settings.
    protected = STARTUP_TRIALS if options.pruner == "median" else 1
    return Forecast(
        trials=options.trials - len(store.finished(study)),
        epochs=epochs,
        workers=workers,
        epoch_seconds=epoch_seconds,
        share=expected_share(options.pruner, epochs),
        earliest=earliest_pruning(options.pruner, epochs),
        protected=max(0, protected - complete),
    )


def print_plan(display: Display, plan: str, pruner: str) -> None:
    """One line: what will run where, on how much data, and for how long."""
    assert display.forecast is not None
    seconds = display.forecast.seconds_left([])
    line = f"{plan}: about {describe_duration(seconds)}"
    if pruner != "none":
        whole = replace(display.forecast, share=1.0).seconds_left([])
        line += f" ({describe_duration(whole)} without pruning)"
    display.print(line)
    if seconds > LONG:
        display.print(
            "       That is long. Shorter: --subset 6000 (fewer images), --epochs 6, "
            "fewer --trials, or --timeout SECONDS and continue later"
        )


def _best_so_far(study: optuna.Study) -> tuple[float, int] | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(((trial.value or 0.0, trial.number) for trial in complete), default=None)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
