"""The queue of trials to train, and the checkpoints of interrupted ones."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from study.engine.asking import Unfit, ask, misfit
from study.engine.budget import Budget, spent
from study.engine.chances import ranked, second_chance, stopped, taken_up, to_train
from study.engine.display import Display
from study.engine.ending import leave_out, repeat
from study.engine.race import Race, row_of
from study.engine.trial import Trial, put_back
from study.pipeline import Settings
from study.spec.identity import Identity, conditions_of, trial_key
from study.spec.spec import Spec
from study.storage.owned import OwnedDatabase
from study.storage.owner import TotalReached, TrialWaiting
from study.storage.records import finished, finished_twin, settings_of
from study.workers.messages import Job


class Queue:
    """Hands out the trials of a study.

    A trial with the settings of a finished one gets that result and is not trained, unless
    `train_again`. `elsewhere` has finished trials of other studies to reuse. In a comparison
    with a `race`, beaten settings are finished without training. Checkpoints are kept in the
    folder `checkpoints`.
    """

    def __init__(
        self,
        study: optuna.Study,
        database: OwnedDatabase,
        spec: Spec,
        identity: Identity,
        checkpoints: Path,
        elsewhere: Mapping[str, list[FrozenTrial]],
        display: Display,
        budget: Budget,
        train_again: bool = False,
        race: Race | None = None,
    ) -> None:
        self._study, self._database, self._spec = study, database, spec
        self._study_id = database.get_study_id_from_name(study.study_name)
        self._conditions = conditions_of(identity)
        self._checkpoints = checkpoints
        self._elsewhere = elsewhere
        self._display = display
        self._budget = budget
        self._curves_by: Sequence[str] = identity["pruner"].get("within", ())
        self._train_again = train_again
        self._race = race
        # Settings of stopped trials that have a checkpoint, by number.
        self._kept = {
            trial.number: settings
            for trial in stopped(study.get_trials(deepcopy=False), spec.epochs)
            if self._state(settings := settings_of(trial)).exists()
        }

    def next(self) -> Trial | None:
        """Return the next trial to train.

        None if the study has all its trials or has no epochs left, if the next trial must wait for
        the outcome of running ones, or if another process has just changed the queue.
        """
        while True:
            trials = self._study.get_trials(deepcopy=False)
            chance = self._second_chance(trials)
            if not self._budget.affords(trials, self._needed(trials, chance)):
                return None
            if self._is_open(trials):
                return None
            try:
                spared = self.spared()
                if chance and not self._database.queue_second_chance(self._study_id, chance):
                    return None  # another process was faster: the loop asks again
                trial = ask(self._study, self._spec)
            except (TotalReached, TrialWaiting):  # put back by another process: it is seen soon
                return None
                return None
            except Unfit as unfit:
                self._display.finished(unfit.finished)
                continue
            known = {"": finished(self._study), **self._elsewhere}
            anyway = self._train_again or trial.continues is not None
            twin = None if anyway else finished_twin(known, trial.settings)
            if twin is not None:
                self._display.finished(repeat(self._study, trial, *twin))
                if trial.settings not in self._kept.values():
                    self.forget(trial)
            elif self._race is None:
                return trial
            else:
                fate, why = self._race.fate(trial.number, trial.handle.params, trials)
                if fate == "train":
                    return trial
                if fate == "wait":  # another process took the trial that was checked
                    put_back(self._database, trial)
                    return None
                self._display.finished(leave_out(self._study, trial, why))
                self._display.spare(1 + self.spared() - spared)
                self.forget(trial)

    def _is_open(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the next trial in the queue must wait for the outcome of running ones."""
        if self._race is None:
            return False
        following = next((each for each in trials if each.state == TrialState.WAITING), None)
        if following is None or self._is_known(following):
            return False
        return self._race.fate(following.number, row_of(following), trials)[0] == "wait"

    @property
    def spent(self) -> int:
        """Epochs trained by all trials, or 0 if they are not limited."""
        if self._budget.limit is None:
            return 0
        return spent(self._study.get_trials(deepcopy=False))

    @property
    def exhausted(self) -> bool:
        """Whether no trial runs in any process and too few epochs are left for another."""
        trials = self._study.get_trials(deepcopy=False)
        if self._budget.limit is None or TrialState.RUNNING in [each.state for each in trials]:
            return False
        needed = self._needed(trials, self._second_chance(trials))
        return not self._budget.affords(trials, needed)

    def _second_chance(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        """Return the second chance to queue now, or None."""
        if any(trial.state == TrialState.WAITING for trial in trials):
            return None
        if not self._budget.takes_up(trials):
            return None
        candidates = stopped(trials, self._spec.epochs)
        if not candidates:
            return None
        kept = [each for each in candidates if self._state(settings_of(each)).exists()]
        best = ranked(kept or candidates, trials, self._curves_by)[0]
        return second_chance(best, resumed=bool(kept))

    def _needed(self, trials: list[FrozenTrial], chance: FrozenTrial | None) -> int:
        """Return how many epochs the next trial may train."""
        waiting = (
            trial
            for trial in trials
            if trial.state == TrialState.WAITING and misfit(trial, self._spec) is None
        )
        begun = chance or next(waiting, None)
        return self._spec.epochs if begun is None else to_train(begun, self._spec.epochs)

    def take_over(self) -> None:
        """Finish trials at the head of the queue that other studies trained or that are beaten."""
        if (self.known() or self.spared()) and (trial := self.next()):
            put_back(self._database, trial)

    def known(self) -> int:
        """Return how many waiting trials other studies have already trained."""
        if not self._elsewhere:
            return 0
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return sum(self._is_known(trial) for trial in waiting)

    def spared(self) -> int:
        """Return how many waiting trials have settings that are out of the race."""
        if self._race is None:
            return 0
        out = self._race.left_out(self._study.get_trials(deepcopy=False))
        return sum(not self._is_known(trial) for trial in out)

    def _is_known(self, trial: FrozenTrial) -> bool:
        if misfit(trial, self._spec):
            return False
        try:
            settings = self._spec.suggest(FixedTrial(dict(row_of(trial))))
        except ValueError:  # incomplete: the sampler will fill in the rest
            return False
        return finished_twin(self._elsewhere, settings) is not None

    def job(self, trial: Trial) -> Job:
        """Return the worker's job for this trial."""
        state, key = self._state(trial.settings), self._key(trial.settings)
        return Job(trial.settings, state, key, trial.behind)

    def forget(self, trial: Trial) -> None:
        """Remove the trial's checkpoint, including a partially written one."""
        self._remove(trial.settings)

    def keep_if_near(self, trial: Trial) -> None:
        """Keep the checkpoint of a pruned trial if it may get a second chance.

        Checkpoints are kept for the best candidates only, as many as there are second chances.
        """
        trials = self._study.get_trials(deepcopy=False)
        for number in taken_up(trials):  # its second chance owns the checkpoint now
            self._kept.pop(number, None)
        self._kept[trial.number] = trial.settings
        mine = [each for each in trials if each.number in self._kept]
        candidates = stopped(trials, self._spec.epochs, among=mine)
        near = ranked(candidates, trials, self._curves_by)[: self._budget.chances(trials)]
        self._forget_all_but({each.number for each in near})

    def _forget_all_but(self, kept: Collection[int]) -> None:
        for number in self._kept.keys() - kept:
            self._remove(self._kept.pop(number))

    def _remove(self, settings: Settings) -> None:
        for file in self._checkpoints.glob(f"{self._key(settings)}.*"):
            file.unlink(missing_ok=True)

    def close(self, for_good: bool = False) -> None:
        """Remove the checkpoint folder if it is empty.

        With `for_good` the checkpoints of stopped trials are removed first.
        """
        if for_good:
            self._forget_all_but(())
        with suppress(OSError):  # not empty, or never created
            self._checkpoints.rmdir()

    def _state(self, settings: Settings) -> Path:
        return self._checkpoints / f"{self._key(settings)}.state"

    def _key(self, settings: Settings) -> str:
        return trial_key(self._conditions, settings)
