"""Search spaces in files: printing and reading round-trips, and invalid ones are refused."""

from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fer.config import Config
from study.options import DEFAULT_URL
from study.pipeline import Only, Space
from study.spec.identity import IDENTITY
from study.spec.own_space import FIELDS, find_space, read_space
from study.spec.printed_space import in_yaml
from study.spec.space import describe, holds
from study.spec.spaces import SPACES
from study.storage.records import kept, settings_of
from tests.conftest import Command

# Settings that go with any others.
FREE = sorted(
    FIELDS.keys()
    - {"momentum", "weight_decay", "schedule", "copies", "oversample", "scaling"}
    - {"mirror", "mirror_validation"}
)


def bounds(name: str) -> tuple[float, float]:
    """Least and greatest value of a number."""
    rules = {type(rule).__name__: rule for rule in FIELDS[name].metadata}
    low = rules["Ge"].ge if "Ge" in rules else 1e-6
    return low, rules["Le"].le if "Le" in rules else 0.999


@st.composite
def distributions(draw: st.DrawFn, name: str) -> BaseDistribution:
    """What a file can say of a setting, one value among it."""
    kind = FIELDS[name].annotation
    if kind not in (int, float):
        values = st.sampled_from([True, False] if kind is bool else get_args(kind))
        return CategoricalDistribution(draw(st.lists(values, min_size=1, unique=True)))
    low, high = bounds(name)
    numbers: Any = st.integers(int(low), int(high)) if kind is int else st.floats(low, high)
    few = draw(st.lists(numbers, min_size=1, max_size=4, unique=True))
    form = draw(st.sampled_from(["choices", "range", "log", "step"]))
    if form == "choices" or len(few) == 1:
        return CategoricalDistribution(few)
    start, end = min(few), max(few)
    if kind is int:
        if form == "step":
            step = draw(st.integers(1, end - start))
            return IntDistribution(start, start + (end - start) // step * step, step=step)
        return IntDistribution(start, end, log=form == "log" and start > 0)
    if form == "step":
        steps = draw(st.integers(1, 9))
        begin, by = round(low + 0.01, 2), 0.01 * draw(st.integers(1, 9))
        return FloatDistribution(begin, round(begin + steps * by, 2), step=round(by, 2))
    return FloatDistribution(start, end, log=form == "log" and start > 0)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    names = draw(st.lists(st.sampled_from(FREE), min_size=1, max_size=8, unique=True))
    space: dict[str, BaseDistribution | Only] = {}
    choosing = [name for name in names if FIELDS[name].annotation not in (int, float)]
    plain = {name: draw(distributions(name)) for name in choosing[:1]}
    for name in names:
        if name in plain or not plain or draw(st.booleans()):
            space[name] = plain.get(name) or draw(distributions(name))
            continue
        (of, kind), *_ = plain.items()
        assert isinstance(kind, CategoricalDistribution)
        chosen = draw(st.lists(st.sampled_from(kind.choices), min_size=1, unique=True))
        for value in chosen:
            only = Only(of, value, name, draw(distributions(name)))
            space[f"{value}_{name}"] = only
    return space


def same(space: Space, other: Space) -> bool:
    return list(space) == list(other) and describe(space) == describe(other)


@settings(deadline=None, max_examples=150)
@given(spaces())
def test_what_is_printed_is_read_as_it_was(space: Space) -> None:
    content = yaml.safe_load(in_yaml(space))
    alone = [kind.distribution if isinstance(kind, Only) else kind for kind in space.values()]
    if all(each.single() for each in alone):
        with pytest.raises(ValueError, match="varies nothing"):
            read_space(content)
    else:
        assert same(read_space(content), space)


@pytest.mark.parametrize("name", SPACES)
def test_a_known_space_in_a_file_is_that_space(name: str, command: Command) -> None:
    printed = command("study.run", "--print-space", name)
    assert printed.code == 0, printed
    Path("mine.yaml").write_text(printed.out)
    found, space = find_space("mine.yaml")
    assert found == name
    assert same(space, SPACES[name])
    # What is said not to vary may be said for all trials.
    lines = printed.out.splitlines()
    rest = lines[next(i for i, line in enumerate(lines) if line.startswith("# Not varied")) + 1 :]
    Path("fixed.yaml").write_text("\n".join([*lines, *(line.removeprefix("# ") for line in rest)]))
    found, fixed = find_space("fixed.yaml")
    assert found == "own"
    assert len(fixed) == len(space) + len(rest)


REFUSED = {
    "unknown setting": ("bach_size: 3", "'bach_size'", "did you mean batch_size?"),
    "no setting": ("{}", "varies nothing", ""),
    "nothing varies": ("lr: 0.1\nfc_width: 20", "varies nothing", ""),
    "of the whole study": ("epochs: {low: 1, high: 9}", "epochs", "sets this for all trials"),
    "empty range": ("lr: {low: 0.5, high: 0.1}", "low = 0.5, high = 0.1", "less than high"),
    "one value": ("lr: {low: 0.1, high: 0.1}", "low = high = 0.1", "lr: 0.1"),
    "no end": ("lr: {low: 0.1}", "lr", "high is missing"),
    "low out of range": ("lr: {low: 0, high: 1}", "low = 0", "greater than 0"),
    "high out of range": ("lr: {low: 1, high: 11}", "high = 11", "less than or equal to 10"),
    "not finite": ("lr: {low: 1, high: .inf}", "high = inf", "finite"),
    "not a number": ("lr: {low: 1, high: .nan}", "high = nan", "finite"),
    "log from zero": ("dropout: {low: 0, high: 0.5, log: true}", "low = 0.0", "than 0 with log"),
    "log no boolean": ("lr: {low: 1, high: 2, log: 3}", "log = 3", "true or false"),
    "log with steps": ("lr: {low: 1, high: 2, log: true, step: 0.5}", "step = 0.5", "has no step"),
    "step too long": ("fc_width: {low: 1, high: 9, step: 9}", "step = 9", "misses high = 9"),
    "step that misses": ("fc_width: {low: 1, high: 9, step: 3}", "step = 3", "misses high = 9"),
    "float step that misses": ("lr: {low: 1, high: 2, step: 0.3}", "step = 0.3", "high = 2.0"),
    "step of nothing": ("lr: {low: 1, high: 2, step: 0}", "step = 0", "greater than 0"),
    "step of a share": ("fc_width: {low: 1, high: 9, step: 0.5}", "step = 0.5", "positive int"),
    "endless step": ("lr: {low: 1, high: 2, step: .inf}", "step = inf", "high = 2.0"),
    "float for a whole number": ("fc_width: {low: 1.5, high: 9}", "low = 1.5", "integer"),
    "truth for a number": ("lr: {low: true, high: 9}", "low = True", "number"),
    "number for truth": ("mirror: {choices: [0, 1]}", "choice = 0", "boolean"),
    "text for a number": ("lr: {choices: [fast]}", "choice = 'fast'", "number"),
    "a range of words": ("pool1: {low: average, high: max}", "pool1", "list its choices"),
    "unknown choice": ("optimizer: {choices: [adm, sgd]}", "choice = 'adm'", "'adam'"),
    "the same choice": ("optimizer: {choices: [Adam, adam]}", "choice = 'adam'", "twice"),
    "no choices": ("optimizer: {choices: []}", "choices = []", "a list of values"),
    "choices and a range": ("lr: {choices: [1], low: 1}", "lr", "give only one"),
    "bare list": ("pool1: [max, average]", "pool1", "{choices: ['max', 'average']}"),
    "nothing said": ("lr:", "lr = None", "number"),
    "unknown word": ("lr: {lo: 1, high: 2}", "'lo'", "did you mean low?"),
    "the same setting": ("lr: {low: 1, high: 2}\nlr: 3", "'lr'", "twice"),
    "by an unknown one": (
        "lr: {by: optimiser, adam: 1}\noptimizer: adam",
        "optimiser",
        "optimizer?",
    ),
    "by itself": ("lr: {by: lr, 1: 1}", "by = 'lr'", "choices in the same file"),
    "by a range": ("lr: {by: fc_width, 8: 1}\nfc_width: {low: 1, high: 9}", "fc_width", "choices"),
    "by what never is": (
        *("optimizer: {choices: [adam, sgd]}\nlr: {by: optimizer, sdg: 1}", "'sdg'"),
        "did you mean sgd?",
    ),
    "by with nothing": ("optimizer: {choices: [adam, sgd]}\nlr: {by: optimizer}", "lr", "for any"),
    "by with a bad range": (
        *("optimizer: {choices: [adam, sgd]}\nlr: {by: optimizer, sgd: {low: 1, high: 11}}",),
        *("lr, sgd: high = 11", "less than or equal to 10"),
    ),
    "what the optimizer lacks": (
        *("optimizer: {choices: [adam, sgd]}\nmomentum: {low: 0, high: 0.9}",),
        *("momentum = 0.9: adam has none", "with by"),
    ),
    "what goes with no copies": (
        *("oversample: {choices: [disgust, none]}\ncopies: {choices: [once, twice]}",),
        *("copies = twice", "with by"),
    ),
    "no mapping": ("- lr", "mapping of keys to values", ""),
    "no YAML": ("lr: {low: 1", "not a YAML file", ""),
    "an endless number": (f"fc_width: {{low: 1, high: {'9' * 900}}}", "high = 9", "8192"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_search_can_vary_is_refused_in_one_line_before_anything_runs(
    case: str, command: Command
) -> None:
    text, place, rule = REFUSED[case]
    Path("my.yaml").write_text(text)
    done = command("study.run", "--space", "my.yaml", "--trials", 1)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    for words in ("my.yaml", place, rule):
        assert words in done.err
    assert [file.name for file in Path().iterdir()] == ["my.yaml"]


@pytest.mark.parametrize("word", ["defualt", "no.yaml", ".", "x" * 5000])
def test_an_unknown_space_is_refused(word: str, command: Command) -> None:
    done = command("study.run", "--space", word)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert ("did you mean default?" in done.err) == (word == "defualt")


def test_an_own_space_is_an_option_of_fer_2013(command: Command) -> None:
    for option in ("--space", "--print-space"):
        done = command("study.run", "--pipeline", "tests.blobs:pipeline", option, "report")
        assert (done.code, done.err.count("\n")) == (2, 1)


def test_settings_that_only_some_trials_may_have_go_by_a_choice() -> None:
    content = {
        "momentum": {"by": "optimizer", "sgd": {"low": 0, "high": 0.9}, "rmsprop": 0.5},
        "optimizer": {"choices": ["Adam", "sgd", "rmsprop"]},
        "rotation": {"by": "mirror", True: {"low": "1e-1", "high": 20, "log": True}},
        "mirror": {"choices": [True, False]},
    }
    space = read_space(content)
    assert list(space) == [
        *("sgd_momentum", "rmsprop_momentum", "optimizer", "True_rotation", "mirror")
    ]
    assert space["True_rotation"] == Only(
        "mirror", True, "rotation", FloatDistribution(0.1, 20.0, log=True)
    )
    assert same(read_space(yaml.safe_load(in_yaml(space))), space)


def test_all_that_is_fixed_is_one_choice_and_rules_of_two_settings_are_kept() -> None:
    space = read_space({"optimizer": "sgd", "momentum": {"low": 0, "high": 0.9, "step": 0.1}})
    assert space["optimizer"] == CategoricalDistribution(["sgd"])
    momentum = space["momentum"]
    assert isinstance(momentum, FloatDistribution)
    assert all(holds(momentum, 0.1 * tenth) for tenth in range(10))
    assert not holds(momentum, 0.25)


def test_a_study_tells_spaces_apart_by_what_they_say_and_not_by_their_files(
    command: Command,
) -> None:
    text = "optimizer: sgd\nlr: {low: 0.001, high: 0.1, log: true}\nfc_width: {low: 8, high: 16}\n"
    Path("one.yaml").write_text(text)
    Path("folder").mkdir()
    Path("folder/two.yaml").write_text(f"# the same\n{text.replace('0.001', '1e-3')}")
    Path("other.yaml").write_text(text.replace("16", "17"))
    quick = ("--subset", 150, "--epochs", 1, "--workers", 1)
    for file, trials in (("one.yaml", 1), ("folder/two.yaml", 2), ("other.yaml", 1)):
        done = command("study.run", "--space", file, "--trials", trials, *quick)
        assert done.code == 0, done
    found = [
        optuna.load_study(study_name=name, storage=DEFAULT_URL)
        for name in optuna.get_all_study_names(DEFAULT_URL)
    ]
    assert [kept(study, IDENTITY)["space"] for study in found] == ["own", "own"]
    assert [len(study.trials) for study in found] == [2, 1]
    first = found[0].study_name
    settings = [Config(**settings_of(trial)) for trial in found[0].trials]
    assert {each.optimizer for each in settings} == {"sgd"}
    assert all(0.001 <= each.lr <= 0.1 and 8 <= each.fc_width <= 16 for each in settings)
    # The commands that follow a search know nothing of its file.
    Path("one.yaml").unlink()
    for line in (
        ("study.confirm", "--study", first, "--top", 1, "--seeds", 1, "--workers", 1),
        ("study.replay", "--study", first, "--trial", 0),
        ("study.report", "--study", first),
        ("study.export", "--study", first),
        ("study.results",),
    ):
        done = command(*line)
        assert done.code == 0, done
