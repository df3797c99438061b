"""Trials added by other programs break neither a study nor its pages."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from study.storage.records import CONFIG, FAILURE, kept
from tests import foreign
from tests.conftest import Command
from tests.scripted import Run, stored

URL = "sqlite:///studies.db"


def small() -> optuna.Study:
    return optuna.load_study(study_name="small", storage=URL)


@pytest.mark.parametrize("pruner", ["median", "screen", "none"])
def test_a_search_continues_among_trials_of_every_kind(
    pruner: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(trials=1, pruner=pruner)
    hopeless = foreign.put_in(small())
    before = stored()
    capsys.readouterr()
    trials = run(trials=30, pruner=pruner)
    said = capsys.readouterr().out
    assert trials[0] == before[0]
    # What is finished stays as it was put in, and what cannot be trained has failed.
    for was, now in zip(before, trials, strict=False):
        if was.state.is_finished():
            assert now.user_attrs == was.user_attrs
            assert now.values == was.values
    failed = [trial for trial in trials if kept(trial, FAILURE) is not None]
    assert len(failed) == hopeless
    for trial in failed:
        assert trial.state == TrialState.FAIL
        assert f"trial {trial.number}" in said
        assert kept(trial, FAILURE)["reason"] in said
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert "ignored" in said
    assert "best inf" not in said
    assert run(trials=30, pruner=pruner) == trials  # and it is over


def test_trials_that_lie_outside_the_space_count_for_nothing(run: Run) -> None:
    run(trials=2)
    study = small()
    for _ in range(20):
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.9))
    mine = [trial for trial in run(trials=12) if kept(trial, CONFIG) is not None]
    assert len(mine) == 12
    # Nor does the sampler see them: all its proposals come from what lies in the space.
    assert all(len(trial.params) == 2 for trial in mine)


def test_a_trial_that_a_person_queued_is_trained_and_what_it_lacks_is_drawn(run: Run) -> None:
    run(trials=2)
    small().enqueue_trial({"rule": "sign"})
    (*_, trial) = run(trials=3)
    assert trial.state == TrialState.COMPLETE
    assert trial.params["rule"] == "sign"
    assert 1e-3 <= trial.params["sign_lr"] <= 1


def test_the_values_of_a_queued_trial_are_rejected_with_the_allowed_ones(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(trials=2)
    study = small()
    study.enqueue_trial({"rule": "sine"})
    study.enqueue_trial({"rul": "sign"})
    study.add_trial(create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": 7}))
    run(trials=3)
    out = capsys.readouterr().out
    assert "rule must be one of plain, sign, got 'sine'" in out
    assert "no parameter 'rul' in the space; did you mean rule?" in out
    assert "its parameters must be a dictionary, got 7" in out


@pytest.mark.long
def test_every_command_reads_a_study_among_trials_of_every_kind(command: Command) -> None:
    quick = ("--subset", "150", "--epochs", "1", "--workers", "1")
    assert command("study.run", "--trials", "1", "--study", "s", *quick).code == 0
    foreign.put_in(optuna.load_study(study_name="s", storage=URL))
    assert command("study.run", "--trials", "16", "--study", "s", *quick).code == 0
    commands = [
        ("study.report", "--study", "s"),
        ("study.results", "--out", "results"),
        ("study.export", "--study", "s", "--out", "best.yaml"),
        ("study.copy", "--out", "copy.db"),
        ("study.replay", "--study", "s", "--trial", "0"),
        ("study.confirm", "--study", "s", "--top", "1", "--seeds", "1", "--workers", "1"),
        ("study.compare", "--vary", "pooling", "--seeds", "1", *quick),
    ]
    for line in commands:
        done = command(*line)
        assert done.code == 0, done
    for name in optuna.get_all_study_names(URL):
        if name != "s":
            foreign.put_in(optuna.load_study(study_name=name, storage=URL))
            assert command("study.report", "--study", name).code == 0
    for line in (*commands[-2:], ("study.results", "--out", "again")):
        done = command(*line)
        assert done.code == 0, done
    for trial in optuna.load_study(study_name="s", storage=URL).trials:
        if kept(trial, CONFIG) is None:
            done = command("study.replay", "--study", "s", "--trial", trial.number)
            assert (done.code, done.err.count("\n")) == (2, 1), done
            break
