"""Comparisons through the real commands: every value with every seed, and the verdict."""

import re
import shlex
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from fer.config import EMOTIONS, Config, read_config, write_yaml
from fer.network.model import parameter_count
from fer.pipeline import FacePipeline
from study.analysis.effects import standard_error
from study.analysis.sections import unfinished
from study.engine.samplers import RowSampler
from study.options import DEFAULT_URL, Images
from study.spec.faces import check, faces
from study.spec.report import FACTORS, OWN, PARTS, RECIPES, values_of
from study.spec.spaces import SPACES
from study.spec.spec import Kind, comparing, searching
from study.storage import records
from tests.conftest import Command, trials
from tests.test_model import net_of

SMALL = ("--subset", "150", "--epochs", "1", "--workers", "1")


def pipeline_of(base: Config, space: str = "default") -> FacePipeline:
    """Demo faces under some settings."""
    return faces(Images(subset=150), base, space=SPACES[space])


def names() -> list[str]:
    return optuna.get_all_study_names(DEFAULT_URL)


def test_every_value_is_trained_with_every_seed_and_the_page_names_the_command(
    command: Command,
) -> None:
    done = command("study.compare", "--vary", "scaling", "--seeds", 2, *SMALL, "--out", "pictures")
    assert done.code == 0, done
    (name,) = names()
    stored = trials(study=name)
    assert [(trial.params["scaling"], trial.params["seed"]) for trial in stored] == [
        ("minus-one-one", 0),
        ("zero-one", 0),
        ("minus-one-one", 1),
        ("zero-one", 1),
    ]
    for trial in stored:
        config = Config(**records.kept(trial, records.CONFIG))
        assert (config.scaling, config.seed) == (trial.params["scaling"], trial.params["seed"])
        assert config.output_activation == "tanh"
    assert len({trial.value for trial in stored}) > 1
    mean = sum(trial.value or 0 for trial in stored if trial.params["scaling"] == "zero-one") / 2
    assert f"{mean:.4f}" in done.out
    assert re.search(r"(not told apart at this budget|holds|does not hold): zero-one ", done.out)
    assert "the noise of the shared validation images is included" in done.out
    assert "best so far" not in done.out  # it would be the luckiest seed
    assert Path("pictures/scaling.png").stat().st_size > 5000

    assert command("study.results", "--out", "page").code == 0
    page = Path("page/results.md").read_text()
    assert f"| zero-one | {mean:.4f} |" in page
    gap = mean - sum(t.value or 0 for t in stored if t.params["scaling"] == "minus-one-one") / 2
    assert f"| {100 * gap:+.2f} [" in page
    assert Path(f"page/{name}.png").exists()
    line = re.search(r"^    python -m (study.compare .*)$", page, re.MULTILINE)
    assert line is not None
    again = command(*shlex.split(line[1]))
    assert again.code == 0, again
    assert f"study  {name}, 4 trials finished" in again.out
    assert f"{mean:.4f}" in again.out
    assert len(trials(study=name)) == 4


def test_what_another_study_trained_alike_is_not_trained_again(command: Command) -> None:
    line = ("study.compare", "--vary", "scaling", *SMALL)
    assert command(*line, "--seeds", 1).code == 0
    (first,) = names()
    more = command(*line, "--seeds", 2)
    assert more.code == 0, more
    assert "plan   2 trials" in more.out
    assert f"repeats trial 1 of study {first}" in more.out
    (second,) = set(names()) - {first}
    for before, after in zip(trials(study=first), trials(study=second)[:2], strict=True):
        assert records.kept(before, records.CONFIG) == records.kept(after, records.CONFIG)
        assert before.intermediate_values == after.intermediate_values
        assert before.value == after.value
        result = records.kept(after, records.RESULT)
        assert (result["repeats_study"], result["repeats"]) == (first, before.number)
    assert all("repeats" not in records.kept(t, records.RESULT) for t in trials(study=second)[2:])
    # The report's value is the same in every comparison; what is trained otherwise is not it.
    shared = command("study.compare", "--vary", "oversampling", *SMALL).out
    assert "plan   4 trials" in shared
    assert "1 more reused from other studies" in shared
    fewer = command("study.compare", "--vary", "oversampling", *SMALL, "--seeds", 2)
    assert "plan" not in fewer.out  # nothing is left to train
    assert "waiting" not in fewer.out
    assert "reused from" not in command(*line, "--seeds", 1, "--split", "stratified").out


def test_settings_from_a_file_are_trained_as_they_are(command: Command) -> None:
    mine = Config(fc_width=33, optimizer="sgd", momentum=0.5, lr=0.01, schedule="cosine")
    write_yaml({"config": mine.settings()}, Path("mine.yaml"))
    line = ("study.compare", "--vary", "seed", "--config", "mine.yaml", "--seeds", 2, *SMALL)
    assert command(*line).code == 0
    (name,) = names()
    assert name.startswith("demo-mine-")
    stored = [Config(**records.kept(trial, records.CONFIG)) for trial in trials(study=name)]
    assert [config.seed for config in stored] == [0, 1]
    kept = mine.model_dump(exclude={*OWN})
    assert all(kept.items() <= config.settings().items() for config in stored)
    assert command("study.results", "--out", "page").code == 0
    page = Path("page/results.md").read_text()
    assert "--vary seed --config mine.yaml" in page
    assert "momentum 0.5" in page
    (file,) = Path("page").glob("settings-*.yaml")
    assert f"`{file.name}`" in page
    assert read_config(file).model_dump(exclude={*OWN}) == mine.model_dump(exclude={*OWN})
    assert "mean of 2 seeds" in page


@pytest.mark.long
def test_each_emotion_is_removed_in_turn_and_chance_is_shown_beside(command: Command) -> None:
    line = ("study.emotions", "--seeds", 1, "--subset", 280, "--epochs", 1, "--workers", 1)
    done = command(*line)
    assert done.code == 0, done
    assert {name.split("-")[2] for name in names()} == {"nothing", *EMOTIONS}
    for name in names():
        (trial,) = trials(study=name)
        removed = name.split("-")[2]
        study = optuna.load_study(study_name=name, storage=DEFAULT_URL)
        assert removed not in records.kept(study, "identity")["classes"]
        assert len(records.kept(study, "identity")["classes"]) == 7 - (removed != "nothing")
        assert re.search(rf"{removed} .*{trial.value:.4f}", done.out)
        # Demo faces have as many of each class, FER-2013 has not.
        assert 1 / 7 <= study.user_attrs["chance"] < 0.4
    assert command("study.results", "--out", "page").code == 0
    assert Path("page/results.md").read_text().count("| without") == 0
    assert "| nothing |" in Path("page/results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("study.compare",), ["--vary"]),
        (("study.compare", "--vary", "nose"), ["nose"]),
        (("study.compare", "--vary", "norm", "ablation"), ["ablation", "--config"]),
        (("study.compare", "--vary", "norm", "--seeds", "0"), ["--seeds", "0"]),
        (("study.compare", "--vary", "norm", "--epochs", "0"), ["--epochs", "0"]),
        (("study.compare", "--vary", "seed", "--config", "no.yaml"), ["no.yaml"]),
        (("study.compare", "--vary", "seed", "--config", "a", "--preset", "baseline"), ["both"]),
        (("study.compare", "--vary", "norm", "--out", "file"), ["--out", "file"]),
        (("study.compare", "--vary", "norm", "--timeout", "-1"), ["--timeout", "-1"]),
        (
            ("study.compare", "--vary", "lr-adam", "--config", "sgd.yaml"),
            ["momentum = 0.9", "adam"],
        ),
        (("study.emotions", "--seeds", "0"), ["--seeds", "0"]),
        (("study.results",), ["no such storage"]),
        (("study.results", "--out", "file"), ["--out", "file"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], named: list[str], command: Command
) -> None:
    Path("file").touch()
    write_yaml({"optimizer": "sgd", "momentum": 0.9}, Path("sgd.yaml"))
    done = command(*arguments)
    assert done.code == 2, done
    assert all(word in done.err for word in named), done.err
    assert "Traceback" not in done.err
    assert {path.name for path in Path().iterdir()} == {"file", "sgd.yaml"}


def test_a_folder_is_made_only_once_the_images_are_read(command: Command) -> None:
    done = command("study.compare", "--vary", "norm", "--data", "no.csv", "--out", "pictures")
    assert done.code == 2, done
    assert not list(Path().iterdir())


def test_the_time_is_shared_by_all_settings(command: Command) -> None:
    line = ("study.compare", "--vary", "norm", "scaling", *SMALL, "--timeout", "0.001")
    done = command(*line)
    assert done.code == 0, done
    assert "timeout before" in done.out


def test_what_is_left_of_a_comparison_appears_on_the_page() -> None:
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=0.5))
    asked = {"space_definition": {"variants": {"a": {}, "b": {}}, "seeds": 2}}
    assert "1 of 4 trials" in unfinished(study, asked)
    assert unfinished(study, {"space_definition": {"variants": {"a": {}}, "seeds": 1}}) == ""


def test_the_best_is_exported_of_a_search_and_of_a_comparison_only_by_name(
    command: Command,
) -> None:
    assert command("study.compare", "--vary", "scaling", "--seeds", 1, *SMALL).code == 0
    (name,) = names()
    refused = command("study.export")
    assert refused.code == 2
    assert "no search in" in refused.err
    assert name in refused.err
    assert command("study.export", "--study", name).code == 0


def test_a_standard_error_is_that_of_the_mean() -> None:
    assert standard_error((0.1, 0.2, 0.3)) == pytest.approx(0.1 / 3**0.5)


def test_a_failed_trial_is_the_next_one_proposed() -> None:
    rows: list[dict[str, Any]] = [{"x": x, "seed": seed} for seed in (0, 1) for x in "ab"]
    choices: dict[str, list[Any]] = {"x": ["a", "b"], "seed": [0, 1]}
    space = {name: CategoricalDistribution(each) for name, each in choices.items()}
    study = optuna.create_study(sampler=RowSampler(rows, space))
    seen = []
    for number in range(6):
        trial = study.ask()
        seen.append({name: trial.suggest_categorical(name, choices[name]) for name in choices})
        if number == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif number != 2:  # one that runs is not proposed again
            study.tell(trial, 0.0)
    assert seen == [rows[0], rows[1], rows[1], rows[2], rows[3], rows[0]]


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_changes_what_it_names_and_has_the_reports_value(name: str) -> None:
    factor = FACTORS[name]
    base = RECIPES["one-cycle recipe"] if name == "ablation" else Config()
    values = values_of(name, base)
    assert factor.control in values or name == "seed"
    assert {*factor.rivals} <= {*values} - {factor.control}
    configs = [base.model_copy(update=changes) for changes in values.values()]
    assert len(set(configs)) == len(configs)
    check(name, base, values, last_seed=1)
    pipeline = pipeline_of(base)
    spec = comparing(Kind.COMPARE, name, pipeline, values, seeds=2, epochs=3)
    asked = [
        Config(**spec.suggest(optuna.trial.FixedTrial(parameters)))
        for parameters in spec.queue.values()
    ]
    assert asked == [
        pipeline.config.model_copy(update={**changes, "seed": seed, "epochs": 3})
        for seed in (0, 1)
        for changes in values.values()
    ]


def test_an_ablation_sets_back_each_part_that_differs_and_nothing_else() -> None:
    recipe = RECIPES["one-cycle recipe"]
    values = values_of("ablation", recipe)
    assert values["as it is"] == {}
    back = {field: value for changes in values.values() for field, value in changes.items()}
    assert recipe.model_copy(update=back) == Config()
    assert "norm" not in values
    assert {*values["widths"]} == {"channels1", "channels2", "channels3", "fc_width"}
    assert {*values["optimizer"]} == {"optimizer", "lr", "weight_decay", "schedule"}
    assert "learning rate" not in values
    fields = [field for fields in PARTS.values() for field in fields]
    assert len({*fields}) == len(fields)
    assert {*fields} == {*Config.model_fields} - {*OWN, "optimizer"}


def test_an_ablation_with_the_reports_optimizer_names_its_parts() -> None:
    mine = Config(lr=0.001, schedule="cosine", weight_decay=0.001)
    assert values_of("ablation", mine) == {
        "as it is": {},
        "learning rate": {"lr": 2e-4},
        "schedule": {"schedule": "constant"},
        "weight decay": {"weight_decay": 0.0},
    }


def test_the_extended_space_stays_below_a_million_parameters() -> None:
    spec = searching(pipeline_of(Config(), "extended"), "extended", None, 0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for parameters in spec.queue.values():
        study.enqueue_trial(parameters)
    configs = [Config(**spec.suggest(study.ask())) for _ in range(300)]
    largest = configs[0].model_copy(
        update={"channels1": 64, "channels2": 96, "channels3": 96, "fc_width": 128}
    )
    assert parameter_count(net_of(largest)) < 1_000_000
    assert max(config.channels3 * config.fc_width for config in configs) <= 96 * 128
    momenta = [config.momentum for config in configs if config.optimizer == "sgd"]
    assert min(momenta) < 0.3 < 0.7 < max(momenta)
    assert {config.momentum for config in configs if config.optimizer == "adam"} == {0.0}
    # The report's final settings come first, then its others, then the recipe.
    assert configs[0].model_dump(exclude={*OWN}) == Config().model_dump(exclude={*OWN})
    assert list(spec.queue)[-1] == "one-cycle recipe"
    assert len(spec.queue) == 7
