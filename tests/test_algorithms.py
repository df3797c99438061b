"""The median pruner decides as Optuna's own, and samplers continue instead of repeating."""

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from fer.config import Config
from study.engine.pruners import MINIMUM_AT_STEP, STARTUP_TRIALS, MedianPruner
from study.engine.samplers import make_sampler
from study.spec.report import SPACES
from study.spec.space import suggest

curves = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(trials=st.lists(st.tuples(curves, st.booleans()), max_size=14), warmup=st.integers(1, 4))
def test_the_median_pruner_decides_as_optunas(
    trials: list[tuple[list[float], bool]], warmup: int
) -> None:
    study = optuna.create_study(direction="maximize")
    complete: list[FrozenTrial] = []
    ours = MedianPruner(complete, warmup)
    theirs = optuna.pruners.MedianPruner(
        n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup, n_min_trials=MINIMUM_AT_STEP
    )
    for values, ends in trials:
        trial = study.ask()
        for step, value in enumerate(values, 1):
            trial.report(value, step)
            frozen = study.get_trials(deepcopy=False)[trial.number]
            assert ours.prune(study, frozen) == theirs.prune(study, frozen)
        if ends:
            complete.append(study.tell(trial, max(values)))
        else:
            study.tell(trial, state=TrialState.PRUNED)


def test_a_schedule_that_gains_late_is_compared_with_its_own_kind() -> None:
    study = optuna.create_study(direction="maximize")
    complete: list[FrozenTrial] = []
    pruner = MedianPruner(complete, 1, ["schedule"])

    def pruned(value: float) -> bool:
        trial = study.ask()
        trial.suggest_categorical("schedule", ["constant", "one-cycle"])
        trial.report(value, 1)
        decision = pruner.prune(study, study.get_trials(deepcopy=False)[trial.number])
        complete.append(study.tell(trial, value))
        return decision

    for schedule, value in [("constant", 0.5), ("one-cycle", 0.2)] * STARTUP_TRIALS:
        study.enqueue_trial({"schedule": schedule})
        assert not pruned(value)
    for schedule, value, decision in [
        ("one-cycle", 0.21, False),
        ("one-cycle", 0.19, True),
        ("constant", 0.21, True),
    ]:
        study.enqueue_trial({"schedule": schedule})
        assert pruned(value) is decision


def test_a_trial_without_a_number_is_pruned() -> None:
    study = optuna.create_study(direction="maximize")
    complete = []
    for _ in range(STARTUP_TRIALS):
        trial = study.ask()
        trial.report(0.5, 1)
        complete.append(study.tell(trial, 0.5))
    trial = study.ask()
    trial.report(float("nan"), 1)
    assert MedianPruner(complete, 1).prune(study, study.get_trials()[-1])


def test_a_continued_study_draws_other_settings() -> None:
    drawn = []
    for before in (0, 1, 0):
        study = optuna.create_study(sampler=make_sampler("random", 3, before))
        drawn.append(suggest(study.ask(), SPACES["default"], Config().settings()))
    assert drawn[0] == drawn[2] != drawn[1]
