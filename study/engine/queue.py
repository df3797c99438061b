"""The trials that are still to be trained, and where the states of interrupted ones are kept."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from study.engine.display import Display
from study.engine.trial import Trial, ask, put_back, repeat
from study.spec.identity import QUESTION, Identity, digest
from study.spec.spec import Spec
from study.storage.owned import OwnedDatabase
from study.storage.owner import TotalReached
from study.storage.records import finished, finished_twin
from study.workers.messages import Job


class Queue:
    """Hands out the trials of a study.

    Settings that a finished trial had are not trained again but finished with its result, unless
    with `train_again`. `elsewhere` has finished trials of other studies that serve as well.
    States are kept in the folder `checkpoints`.
    """

    def __init__(
        self,
        study: optuna.Study,
        spec: Spec,
        identity: Identity,
        checkpoints: Path,
        elsewhere: Mapping[str, list[FrozenTrial]],
        display: Display,
        train_again: bool = False,
    ) -> None:
        self._study, self._spec, self._identity = study, spec, identity
        self._checkpoints = checkpoints
        self._elsewhere = elsewhere
        self._display = display
        self._train_again = train_again

    def next(self) -> Trial | None:
        """The next trial to train; None if the study has as many as it is to have."""
        while True:
            try:
                trial = ask(self._study, self._spec)
            except TotalReached:
                return None
            known = {"": finished(self._study), **self._elsewhere}
            twin = None if self._train_again else finished_twin(known, trial.settings)
            if twin is None:
                return trial
            self._display.finished(repeat(self._study, trial, *twin))
            self.forget(trial)

    def take_over(self, database: OwnedDatabase) -> None:
        """Finish the trials at the head that other studies have trained."""
        if self.known() and (trial := self.next()):
            put_back(database, trial)

    def known(self) -> int:
        """How many waiting trials other studies have trained."""
        if not self._elsewhere:
            return 0
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return sum(self._is_known(trial) for trial in waiting)

    def _is_known(self, trial: FrozenTrial) -> bool:
        parameters = trial.params or trial.system_attrs.get("fixed_params", {})
        try:
            settings = self._spec.suggest(FixedTrial(parameters))
        except ValueError:  # its sampler will give the rest
            return False
        return finished_twin(self._elsewhere, settings) is not None

    def job(self, trial: Trial) -> Job:
        """What a worker is to do."""
        key = self._key(trial)
        return Job(trial.settings, self._checkpoints / f"{key}.state", key, trial.behind)

    def forget(self, trial: Trial) -> None:
        """Remove the trial's state, and what was left half written of it."""
        for file in self._checkpoints.glob(f"{self._key(trial)}.*"):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder if there is nothing in it."""
        with suppress(OSError):  # states of interrupted trials, or it was never made
            self._checkpoints.rmdir()

    def _key(self, trial: Trial) -> str:
        """What the trial's numbers depend on, as one word."""
        conditions = {key: each for key, each in self._identity.items() if key not in QUESTION}
        return digest(conditions, trial.settings)
