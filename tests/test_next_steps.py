"""What to do next: confirm, add seeds, export what was confirmed; commands that can be pasted."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from fer.config import EMOTIONS
from study.analysis.commands import confirm_command, of_what, say_next
from study.analysis.effects import Effect
from study.analysis.next_steps import next_steps, seeds_for_a_verdict, winner_in_words
from study.analysis.noise import Noise
from study.analysis.odds import MANY
from study.analysis.verdicts import judge
from study.options import DEFAULT_URL, command_line
from study.spec.identity import IDENTITY
from study.storage.studies import COMMAND
from tests.test_answer import SEARCH, a_search, confirmation
from tests.test_confirmation import BETTER, HAND, NEAR, WORSE, effect
from tests.test_printed_commands import URL, words

MADE = ["--data", "a b.csv", "--top=3", "--seeds", "4", "--no-race", "--timeout", "60"]
MADE += ["--storage", "sqlite:///gone.db"]
FACES = {"data_sha256": "", "classes": list(EMOTIONS), "subset": None}
CLOSE = (0.515, 0.500, 0.516, 0.497)


def steps(study: optuna.Study, *others: optuna.Study, url: str = DEFAULT_URL) -> dict[str, Any]:
    """The words of each command by its program, with its purpose."""
    found = next_steps(study, [study, *others], url)
    return {
        words(line)[2 if "-m" in line else 0]: (words(line), why) for line, why in found.items()
    }


def test_commands_name_study_database_and_images(capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study(study_name="-x $y")
    kept_classes = [name for name in EMOTIONS if name not in ("fear", "sad")]
    faces = {**FACES, "classes": kept_classes, "split": "stratified", "split_seed": -1}
    study.set_user_attr(IDENTITY, {**SEARCH, **faces})
    study.add_trial(create_trial(value=0.5))
    study.set_user_attr(COMMAND, command_line("study.run", ["--data", "my faces/a'b.csv"], URL))
    say_next(next_steps(study, [study], URL))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert "secret" not in "".join(lines)
    confirm, report, dashboard, export, train = map(words, lines)
    url = URL.replace("secret", "***").replace("a b", "a+b")
    data = ["--data", "my faces/a'b.csv"]
    assert confirm[3:] == ["--study=-x $y", "--storage", url, *data]
    assert report[3:] == ["--study=-x $y", "--storage", url]
    assert dashboard[1:] == [url, "--artifact-dir", "studies.artifacts"]
    assert export[3:] == ["--study=-x $y", "--storage", url, "--out", "best.yaml"]
    assert train[5:8] == ["--whole", "--out", "runs/-x $y"]
    split = ["--split", "stratified", "--split-seed=-1"]
    assert train[8:] == [*data, *split, "--remove", "fear", "sad"]
    assert "fer.evaluate" not in "".join(lines)  # who looks at the test often chooses on it
    again = confirm_command("-x", "sqlite:///a b.db", "m:o", Path("-d"))
    where = ["--study=-x", "--storage", "sqlite:///a b.db"]
    assert words(again)[3:] == [*where, "--pipeline", "m:o", "--data=-d"]


def test_a_search_is_confirmed_first() -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    line, why = steps(study)["study.confirm"]
    assert line[3:] == ["--study", study.study_name, "--pipeline", "module:object"]
    assert why == "is the best real?"


@pytest.mark.parametrize("seen_from", ["search", "confirmation"])
def test_a_real_winner_is_exported_and_not_confirmed_again(seen_from: str) -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    real = confirmation(0.56, 0.562, 0.558, 0.561, search=study.study_name)
    found = steps(*((study, real) if seen_from == "search" else (real, study)))
    assert "study.confirm" not in found
    line, why = found["study.export"]
    assert line[3:5] == ["--study", real.study_name]
    assert why == "the settings of trial 3, confirmed"


def test_a_confirmation_without_a_winner_continues_with_the_seeds_that_would_tell() -> None:
    study = a_search((0.50, "by hand", None), (0.52, "", None))
    close = confirmation(*CLOSE, search=study.study_name)
    close.set_user_attr(COMMAND, command_line("study.confirm", MADE, "sqlite:///gone.db"))
    for of, other in ((study, close), (close, study)):
        found = steps(of, other, url="sqlite:///here.db")
        line, why = found["study.confirm"]
        assert why == "retrain the best with more seeds"
        seeds = int(line[-1])
        assert 6 <= seeds <= MANY
        same = ["--data", "a b.csv", "--top=3", "--no-race"]  # without its time limit
        where = ["--study", study.study_name, "--storage", "sqlite:///here.db"]
        assert line[3:] == [*same, *where, "--seeds", str(seeds)]
        assert found["study.export"][1] == "the best so far, not confirmed"


def test_a_confirmation_with_runs_to_come_is_finished_whatever_it_shows_so_far() -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    real = confirmation(0.56, 0.562, 0.558, 0.561, search=study.study_name)
    real.set_user_attr(COMMAND, command_line("study.confirm", MADE, "sqlite:///gone.db"))
    real.enqueue_trial({"lr": 2, "seed": 4})
    found = steps(study, real)
    line, why = found["study.confirm"]
    assert why == "finish the confirmation"
    assert line[line.index("--seeds") + 1] == "4"  # as it was asked for
    assert found["study.export"][1] == "the best so far, not confirmed"


def test_a_confirmation_that_has_just_begun_is_finished() -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    begun = confirmation(search=study.study_name)
    begun.set_user_attr(COMMAND, command_line("study.confirm", MADE, "sqlite:///gone.db"))
    begun.enqueue_trial({"lr": 2, "seed": 0})
    assert steps(study, begun)["study.confirm"][1] == "finish the confirmation"
    (only,) = steps(begun, study)  # it has nothing to show or to export yet
    assert only == "study.confirm"


def test_the_images_may_have_moved_since() -> None:
    study = a_search((0.50, "by hand", None), (0.52, "", None))
    close = confirmation(*CLOSE, search=study.study_name)
    close.set_user_attr(COMMAND, command_line("study.confirm", MADE, "sqlite:///gone.db"))
    found = next_steps(close, [study, close], DEFAULT_URL, data=Path("new.csv"))
    (line,) = (words(each) for each in found if "study.confirm" in each)
    assert line.count("--data") == 1
    assert line[line.index("--data") + 1] == "new.csv"


def test_a_confirmation_without_a_command_or_without_its_search() -> None:
    study = a_search((0.50, "by hand", None), (0.52, "", None))
    close = confirmation(*CLOSE, search=study.study_name)
    found = next_steps(close, [study, close], "sqlite:///here.db", pipeline="m:o")
    (line,) = (words(each)[3:] for each in found if "study.confirm" in each)
    where = ["--study", study.study_name, "--storage", "sqlite:///here.db"]
    assert line[:-2] == ["--pipeline", "m:o", *where]
    assert "study.confirm" not in steps(close)  # the search was deleted


def test_a_confirmation_continues_as_the_largest_of_its_search() -> None:
    study = a_search((0.50, "by hand", None), (0.58, "", None))
    small = confirmation(*CLOSE, search=study.study_name)
    large = confirmation(0.56, 0.562, 0.558, 0.561, 0.559, search=study.study_name)
    found = steps(small, large, study)
    assert "study.confirm" not in found
    assert found["study.export"][0][3:5] == ["--study", large.study_name]


def test_a_split_of_each_seed_is_no_split_of_a_final_model() -> None:
    study = optuna.create_study()
    stored = {**SEARCH, **FACES, "split": "grouped", "split_seed": "seed", "holdout_seed": 7}
    study.set_user_attr(IDENTITY, stored)
    assert of_what(study) == ({"split_seed": 7}, None)
    study.set_user_attr(IDENTITY, {**stored, "holdout_seed": 42})
    assert of_what(study) == ({}, None)


def test_a_study_without_a_complete_trial_has_no_next_step() -> None:
    assert steps(a_search()) == {}


def test_seeds_are_suggested_where_more_would_tell() -> None:
    def suggested(*found: Effect) -> tuple[int | None, str]:
        verdicts = judge(found, "hand")
        seeds = seeds_for_a_verdict(found, "hand", verdicts, Noise())
        return seeds, winner_in_words(verdicts, "hand")

    assert suggested(HAND, BETTER, NEAR) == (None, "the settings of better, confirmed")
    assert suggested(HAND, WORSE) == (None, "the best settings: hand")
    seeds, exported = suggested(HAND, NEAR)
    assert 6 <= (seeds or 0) <= MANY
    assert exported == "the best so far, not confirmed"
    assert suggested(HAND, effect("once", 0.5))[0] == 6
    level = effect("level", 0.502, 0.504, 0.509)  # hardly apart: no seeds would tell
    assert suggested(HAND, level)[0] is None
