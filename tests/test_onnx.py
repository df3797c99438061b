"""ONNX export: inputs and outputs, and the check before the file is written."""

import csv
import json
import multiprocessing
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from fer import onnx_file, runs
from fer.config import Config
from fer.data import demo
from fer.errors import UserError
from fer.network.model import Net
from fer.training.evaluation import predict
from tests.conftest import Command, process
from tests.test_bad_input import refused

SMALL = ("--subset", 150, "--epochs", 1)


@pytest.fixture
def with_onnx(without_onnx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there."""
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "onnxruntime", "onnxscript"))


def images(count: int) -> NDArray[np.uint8]:
    return demo.draw(np.arange(count) % 7, np.random.default_rng(3))


def write_apart(folder: str) -> float:
    """`onnx_file.write` in a process of its own: after it PyTorch trains in no forked worker."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(onnx_file.write, (Path(folder),))


def run(folder: str, config: Config, classes: tuple[str, ...]) -> Net:
    """A run with drawn weights, as after a training."""
    trained_on = runs.TrainedOn("demo", "0" * 64, classes, "grouped", None)
    runs.new_run(Path(folder), runs.Plan(config, trained_on, {}))
    net = Net(config, len(classes), torch.Generator().manual_seed(1))
    for _ in range(3):  # statistics of the normalisation that are not those of a new one
        net.train()(torch.from_numpy(images(64)).unsqueeze(1) / 255)
    runs.save_weights(Path(folder), net, 1)
    return net.eval()


@pytest.mark.parametrize(
    "config",
    [
        Config(
            precision="float32",
            tta="mirror",
            norm="group",
            conv_activation="silu",
            output_activation="none",
            scaling="zero-one",
            dropout=0.3,
        ),
        pytest.param(
            Config(precision="float32", tta="ten-crop", norm="none", pool1="average"),
            marks=pytest.mark.long,
        ),
    ],
    ids=["mirror", "ten-crop"],
)
def test_any_number_of_pixels_gives_the_probabilities_of_pytorch(
    config: Config, with_onnx: None
) -> None:
    net = run("run", config, ("fear", "sad", "neutral"))
    assert write_apart("run") <= onnx_file.TOLERANCE
    session = onnxruntime.InferenceSession("run/model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 100):
        faces = images(count)
        with torch.no_grad():
            expected = predict(net, torch.from_numpy(faces), config).softmax(1).numpy()
        (found,) = session.run(["probabilities"], {"images": faces})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
    (taken,) = session.get_inputs()
    assert (taken.type, taken.shape[1:]) == ("tensor(uint8)", [48, 48])
    model = onnx.load("run/model.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["fear", "sad", "neutral"]
    assert (told["size"], told["colour"]) == ("48x48", "grey")
    assert told["scaling"].startswith(config.scaling)
    assert told["tta"].startswith(config.tta)
    assert str(Path().resolve()).encode() not in Path("run/model.onnx").read_bytes()
    assert b"fer/network" not in Path("run/model.onnx").read_bytes()  # no trace of this machine


def test_what_onnxruntime_says_otherwise_is_not_written(
    with_onnx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("run", Config(precision="float32"), ("fear", "sad"))
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="onnxruntime and PyTorch disagree"):
        write_apart("run")
    assert not Path("run/model.onnx").exists()


def test_a_training_writes_it_where_the_extra_is_installed(command: Command) -> None:
    done = process("fer.train", *SMALL, "--precision", "float32", "--out", "run")
    assert done.code == 0, done
    assert "model.onnx" in done.out
    assert "onnx" in yaml.safe_load(Path("run/README.md").read_text().split("---")[1])["tags"]
    content = Path("run/model.onnx").read_bytes()
    assert Path("run/model.onnx").stat().st_mode == Path("run/metrics.csv").stat().st_mode
    face = images(1)[0]
    Image.fromarray(face).save("face.png")
    assert command("fer.predict", "run", "face.png", "--table", "table.csv").code == 0
    (row,) = csv.DictReader(Path("table.csv").read_text().splitlines())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    (found,) = session.run(None, {"images": face[None]})[0]
    assert [float(row[name]) for name in classes] == pytest.approx(found.tolist(), abs=1e-4)
    # Later, of a run that has none, the same file.
    done = process("fer.export_onnx", "run", "--out", "other.onnx")
    assert done.code == 0, done
    assert Path("other.onnx").read_bytes() == content


def test_without_the_extra_a_run_has_none_and_asking_for_one_is_an_error(
    command: Command, own_folder: Path
) -> None:
    names = ["[onnx]", "left_out_here", "pip install"]
    refused(command, own_folder, names, "fer.train", "--onnx", *SMALL, "--out", "run")
    refused(command, own_folder, names, "fer.export_onnx", "run")
    assert command("fer.train", *SMALL, "--out", "run").code == 0
    assert not Path("run/model.onnx").exists()
    assert "model.onnx" not in Path("run/README.md").read_text()


def test_an_onnx_file_of_what_is_no_run_is_refused(
    with_onnx: None, command: Command, own_folder: Path
) -> None:
    refused(command, own_folder, ["not a run folder", "nope"], "fer.export_onnx", "nope")
    refused(
        command,
        own_folder,
        ["--out", "no/a.onnx"],
        *("fer.export_onnx", "r", "--out", "no/a.onnx"),
    )
