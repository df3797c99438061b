"""Settings survive a round trip through a file; invalid ones are named."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer import train
from fer.config import PRESETS, Config, Optimizer, read_config, write_yaml
from fer.errors import UserError
from study import compare


@given(
    st.sampled_from(get_args(get_args(Optimizer)[0])),
    st.floats(1e-8, 10),
    st.integers(2, 4096),
    st.integers(0, 2**31 - 1),
)
def test_a_config_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, optimizer: str, lr: float, batch: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    config = Config.model_validate(
        {"optimizer": optimizer, "lr": lr, "batch_size": batch, "seed": seed}
    )
    write_yaml({"config": config.settings()}, path)
    assert read_config(path) == config


def test_a_file_of_settings_alone_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lr: 2e-3\noptimizer: Adamax\n")
    assert read_config(path) == Config(lr=0.002, optimizer="adamax")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("learning_rate: 1", ["unknown configuration key 'learning_rate'"]),
        ("lr: -1", ["lr", "-1", "greater than 0"]),
        ("lr: .nan", ["lr", "nan", "finite"]),
        ("dropout: 1.0", ["dropout", "less than 1"]),
        ("optimizer: lion", ["optimizer", "'lion'"]),
        ("optimizer: rprop\nweight_decay: 0.1", ["weight_decay", "rprop"]),
        ("copies: twice\noversample: none", ["copies = twice", "oversample a class"]),
        ("copies: twice\nscaling: zero-one", ["copies = twice", "scaling = zero-one"]),
        ("mirror_validation: true\nmirror: false", ["mirror_validation = True", "use False"]),
        ("config: 3", ["'config'", "3"]),
        ("- lr", ["mapping of keys to values"]),
        ("lr: [", ["not a YAML file"]),
        ("!!python/object/apply:os.system ['true']", ["not a YAML file"]),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    for name in [*names, str(path)]:
        assert name in str(caught.value)


def test_the_presets_are_the_reports() -> None:
    tuned, start = PRESETS["hand-tuned"], PRESETS["baseline"]
    assert (tuned.optimizer, tuned.lr, tuned.batch_size, tuned.fc_width) == ("adam", 2e-4, 32, 70)
    assert (tuned.output_activation, tuned.scaling) == ("tanh", "minus-one-one")
    assert (start.output_activation, start.scaling, start.epochs) == ("softmax", "zero-one", 20)


def test_the_presets_that_reproduce_the_report_differ_from_its_settings_in_its_code_alone() -> (
    None
):
    tuned = PRESETS["hand-tuned"]
    assert (tuned.copies, tuned.mirror_validation) == ("once", False)
    twice = {"copies": "twice"}
    assert PRESETS["reproduction"] == tuned.model_copy(update=twice)
    mirrored = {**twice, "mirror_validation": True}
    assert PRESETS["reproduction-mirrored"] == tuned.model_copy(update=mirrored)


def test_the_commands_offer_every_preset() -> None:
    assert [get_args(preset) for preset in (train.Preset, compare.Preset)] == [tuple(PRESETS)] * 2
