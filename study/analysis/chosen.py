"""The settings that a study chooses for the final model, and their provenance."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from fer.command import given
from fer.errors import UserError
from study.analysis.answer import confirmation_of
from study.analysis.effects import Effect, effects, trials_of
from study.analysis.noise import noise_elsewhere
from study.analysis.verdicts import Verdict, judge
from study.spec.identity import IDENTITY
from study.storage.records import ORIGIN, finished, kept, to_come
from study.words import counted


@dataclass(frozen=True)
class Winner:
    """The settings of a confirmation with the highest mean over seeds.

    `verdict` compares them with the `control`: None for the control itself or without a verdict.
    """

    study: optuna.Study
    effect: Effect
    trials: tuple[FrozenTrial, ...]  # by seed
    best_epoch: int  # the median over seeds
    best: float  # mean score of the best epochs
    epochs: int
    control: str
    verdict: Verdict | None
    among: int
    to_come: int  # runs

    @property
    def confirmed(self) -> bool | None:
        """Whether they beat the control by more than noise, with all runs made; None for the
        control itself."""
        if self.effect.label == self.control:
            return None
        return self.verdict is not None and self.verdict.word == "better" and not self.to_come

    @property
    def in_words(self) -> str:
        """Which settings won, and whether that is confirmed."""
        label = self.effect.label
        if label == self.control:
            return f"the control's settings, {label}: no others have a higher mean"
        told = f", {self.verdict.points} points against {self.control}" if self.verdict else ""
        left = f" yet, {counted(self.to_come, 'run')} to come" if self.to_come else ""
        return f"{label}, {'confirmed' if self.confirmed else 'not confirmed'}{left}{told}"

    def provenance(self, metric: str, studies: Sequence[optuna.Study]) -> dict[str, Any]:
        """Return their provenance in plain types. The search may be among the `studies`."""
        search = kept(self.study, IDENTITY)["space_definition"]["search"]
        effect, count = self.effect, len(self.effect.scores)
        known: dict[str, Any] = {
            "search": search,
            "setting": effect.label,
            "trial": self.trials[0].number,
            "trials": [trial.number for trial in self.trials],
            "seeds": list(effect.seeds),
            metric.replace(" ", "_"): effect.mean,
        }
        if count > 1:
            from scipy import stats

            ends = [*map(float, stats.ttest_1samp(effect.scores, 0).confidence_interval())]
            known["standard_error"] = effect.error
            shares = all(0 <= score <= 1 for score in effect.scores)
            if not shares or (ends[0] >= 0 and ends[1] <= 1):  # else there are too few seeds
                known["interval_95"] = ends
        known |= {"best_epoch": self.best_epoch, "best_epoch_score": self.best}
        known |= {"epochs": self.epochs, "chosen_among": self.among}
        for study in studies:
            if study.study_name == search:
                known["chosen_among_trials"] = len(finished(study))
        return {**known, **told(self.confirmed, self.control, self.verdict)}


def winner_of(study: optuna.Study, studies: Sequence[optuna.Study]) -> Winner:
    """Return the winner of a confirmation among the settings trained with the most seeds.

    Raises UserError if no trial is complete.
    """
    identity = kept(study, IDENTITY)
    found = effects(study, identity)
    trained = [each for each in found if each.scores and not each.diverged]
    if not trained:
        raise UserError(f"no complete trial in study {study.study_name!r}")
    most = max(len(each.scores) for each in trained)  # beaten settings get no further seeds
    best = max((each for each in trained if len(each.scores) == most), key=lambda each: each.mean)
    variants = identity["space_definition"]["variants"]
    control = next(iter(variants))
    verdicts = judge(found, control, elsewhere=noise_elsewhere(studies, identity))
    trials, results = zip(*trials_of(study, variants[best.label]), strict=True)
    return Winner(
        study,
        best,
        trials,
        statistics.median_low(result.epoch or result.epochs for result in results),
        statistics.fmean(result.best or 0.0 for result in results),
        min(result.epochs for result in results),
        control,
        verdicts.get(best.label),
        len(trained),
        to_come(study),
    )


def confirmation_for(
    trial: FrozenTrial, search: optuna.Study, studies: Sequence[optuna.Study]
) -> tuple[dict[str, Any], str]:
    """Return the verdict of a search's confirmation on a trial in plain types, and a line with
    the settings it would choose; empty without a confirmation."""
    again = confirmation_of(search.study_name, studies)
    if again is None:
        return {"confirmed": None}, ""
    identity = kept(again, IDENTITY)
    found = effects(again, identity)
    winner = winner_of(again, studies)
    verdicts = judge(found, winner.control, elsewhere=noise_elsewhere(studies, identity))
    own = {label: each for label, each in verdicts.items() if is_of(label, trial)}
    verdict = next(iter(own.values()), None)
    confirmed = None if verdict is None else verdict.word == "better" and not winner.to_come
    known = {"confirmation": again.study_name, **told(confirmed, winner.control, verdict)}
    choice = "the same settings" if is_of(winner.effect.label, trial) else "other settings"
    line = f"the confirmation picks {choice}: {winner.in_words}"
    command = f"python -m study.export {given('study', again.study_name)}"
    return known, f"{line} (to export them: {command})"


def is_of(label: str, trial: FrozenTrial) -> bool:
    """Whether a label of a confirmation refers to a trial: by number, or for the control by
    origin."""
    return label.split(" (")[0] == f"trial {trial.number}" or label == kept(trial, ORIGIN)


def told(confirmed: bool | None, control: str, verdict: Verdict | None) -> dict[str, Any]:
    """Return a verdict in plain types."""
    known: dict[str, Any] = {"confirmed": confirmed}
    if verdict is not None:
        known["points_against_control"] = {
            "control": control,
            "mean": verdict.mean,
            "interval_95": [verdict.low, verdict.high],
        }
    return known
