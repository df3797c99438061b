"""A study from its options and its question: data, identity, plan, the loop, what came out."""

import math
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from fer import data
from fer.config import Config
from fer.data import Faces
from fer.errors import UserError
from fer.training.augment import oversample
from fer.training.device import choose, in_words, settle
from study import storage as store
from study.algorithms import (
    MINIMUM_AT_STEP,
    STARTUP_TRIALS,
    RowSampler,
    earliest_pruning,
    expected_share,
    make_pruner,
    make_sampler,
)
from study.conclusion import next_commands, summary
from study.database import Database
from study.display import Display, counted, describe_duration
from study.estimate import CROWD, Estimate
from study.forecast import Forecast
from study.identity import IDENTITY, Identity, identity_of, study_name
from study.lanes import Lanes
from study.loop import Loop
from study.question import Question, searching
from study.run import Options
from study.sessions import next_session
from study.stop import Stop
from study.training import Task
from study.trial import ending, finished_twin
from study.workers import Workers, default_lanes, devices_for

DEMO_EPOCHS = 5
LONG = 2 * 3600  # seconds from which the plan names the options that shorten it


def search(options: Options) -> None:
    """Search a space until `options.trials` of the study's trials are finished."""

    def conclude(study: optuna.Study, validation: Faces) -> None:
        summary(study, len(validation))
        next_commands(study, options)

    conduct(options, searching(options.space), conclude)


def conduct(
    options: Options, question: Question, conclude: Callable[[optuna.Study, Faces], None]
) -> None:
    """Run or continue a study until `options.trials` of its trials are finished.

    `conclude` is told the study, as far as it came, and its validation images.
    """
    folder = options.checkpoints or store.checkpoints_beside(options.storage)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--checkpoints must be a folder, got the file {folder}")
    device = choose(options.device)
    most = min(options.workers or default_lanes(device), options.trials)
    with Stop(options.timeout) as stop, Workers(most, devices_for(device, most)) as workers:
        dataset = data.load(options.data, options.remove)
        usual = DEMO_EPOCHS if dataset.name == "demo" else question.base.epochs
        epochs = options.epochs or usual
        training, validation = data.split(dataset.part("Training"), options.split, options.subset)
        # One thread a trial, whatever runs beside it: another number rounds sums differently.
        base = settle(
            question.base.model_copy(
                update={
                    "epochs": epochs,
                    "seed": options.seed,
                    "precision": options.precision,
                    "threads": 1,
                }
            ),
            device,
        )
        identity = identity_of(dataset, options.split, options.subset, question, base, device)
        with closing(store.open_database(options.storage)) as database:
            stop.gently()
            database.total = options.trials
            study = open_study(database, identity, options, question)
            elsewhere = {}
            if question.variants:  # a search goes by what it has seen itself
                elsewhere = store.trained_elsewhere(database, study.study_name, identity)
            display = Display(
                options.trials, epochs, _best_so_far(study), search=not question.variants
            )
            estimate = Estimate(
                images=len(oversample(training, base, torch.Generator())),
                validation=len(validation),
                device=device.type,
                # Whoever names a number of trials at once gets it, as far as memory goes.
                crowd=math.inf if options.workers else CROWD,
            )
            loop = Loop(
                study=study,
                database=database,
                total=options.trials,
                space=question.space,
                base=base,
                identity=identity,
                checkpoints=folder,
                train_again=options.duplicates == "train",
                elsewhere=elsewhere,
                spared=earliest_pruning(options.pruner, epochs),
                lanes=Lanes(workers, estimate),
                stop=stop,
                display=display,
            )
            database.on_wait = loop.waiting
            if known(study, base, elsewhere):
                loop.take_over()
            finished = len(store.finished(study))
            outcome = "finished"
            if finished < options.trials:
                remaining = options.trials - finished
                new = remaining - known(study, base, elsewhere)
                count = max(1, min(most, new))
                workers.begin(count, task(training, validation, question.examples(base)))
                plan = (
                    f"plan   {counted(new, 'trial')} x {counted(epochs, 'epoch')} of "
                    f"{len(training)} training and {len(validation)} validation images of "
                    f"{dataset.name} ({options.split} split) on {in_words(device, base)}, "
                    f"{'up to ' if device.type == 'cuda' else ''}{count} at once"
                    f"{f', {remaining - new} more known from other studies' * (new < remaining)}"
                )
                with display:
                    display.note("starting workers and measuring their speed")
                    pace = loop.measure()
                    if pace is not None:
                        display.forecast = forecast(study, options, new, count, pace)
                        print_plan(display, plan, options.pruner)
                    outcome = loop.run()
            if outcome != "finished":
                print(
                    f"stopped with {len(store.finished(study))} of {options.trials} trials "
                    "finished; the same command continues"
                )
            conclude(study, validation)
    if outcome == "interrupted":
        sys.exit(stop.exit_code)


def open_study(
    database: Database, identity: Identity, options: Options, question: Question
) -> optuna.Study:
    """The study of `options`, begun with the queue of `question` or continued."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = options.study or study_name(identity)
    queue = [store.waiting(parameters, origin) for origin, parameters in question.queue]
    study, new = store.open_study(database, name, identity, queue)
    store.requeue_abandoned(study, database)
    session = next_session(database, study._study_id)
    study.sampler = (
        RowSampler([row for _, row in question.queue], question.space)
        if question.variants
        else make_sampler(options.sampler, options.seed, session)
    )
    study.pruner = make_pruner(
        options.pruner, identity["epochs"], database.complete[study._study_id]
    )
    finished = len(store.finished(study))
    running = len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
    print(
        f"study  {name}, {'new' if new else counted(finished, 'trial') + ' finished'}, "
        f"in {store.hidden(options.storage)}"
    )
    interrupted = [ending(trial) for trial in study.get_trials(deepcopy=False)].count(
        "interrupted"
    )
    if interrupted:
        print(f"       {counted(interrupted, 'interrupted trial')} will go on from the last epoch")
    if running:
        print(f"       {counted(running, 'trial')} running in other processes: joining them")
    if new and (other := store.similar(database, name, identity)):
        print(f"       study {other} asked the same of another installation: not continued")
    return study


def known(study: optuna.Study, base: Config, elsewhere: dict[str, list[FrozenTrial]]) -> int:
    """How many trials of the queue other studies have trained."""
    queue = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    settings = [trial.system_attrs.get("fixed_params", {}) for trial in queue]
    return sum(
        finished_twin(elsewhere, base.model_copy(update=each)) is not None for each in settings
    )


def task(training: Faces, validation: Faces, to_measure: list[Config]) -> Task:
    """What workers are given."""
    return Task(
        training=(training.images.numpy(), training.labels.numpy()),
        validation=(validation.images.numpy(), validation.labels.numpy()),
        classes=training.classes,
        examples=to_measure,
    )


def forecast(
    study: optuna.Study, options: Options, new: int, workers: int, epoch_seconds: float
) -> Forecast:
    """What is left of the study, `new` trials at the measured seconds an epoch."""
    epochs = study.user_attrs[IDENTITY]["epochs"]
    trials = study.get_trials(deepcopy=False)
    complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    # The median pruner waits for some complete trials, the others spare the report's settings.
    protected = 1
    if options.pruner == "median":
        schedules = study.user_attrs[IDENTITY]["space_definition"].get("schedule", {})
        kinds = len(schedules.get("attributes", {}).get("choices", [None]))
        protected = max(STARTUP_TRIALS, MINIMUM_AT_STEP * kinds)
    return Forecast(
        trials=new,
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
