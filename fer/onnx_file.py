"""Export a trained model with its preprocessing to ONNX, checked against PyTorch."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer.errors import UserError
from fer.files import drop_link, write_file
from fer.strict_json import to_json

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from fer.config import Config
    from fer.network.model import Net
    from fer.runs import TrainedOn

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
"""Maximum difference of a probability from PyTorch's."""
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUT, OUTPUT = "images", "probabilities"


def installed() -> bool:
    """Whether the extra [onnx] is installed."""
    return all(find_spec(name) is not None for name in PACKAGES)


def require() -> None:
    """Raise UserError if the extra [onnx] is not installed."""
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    if lacking:
        raise UserError(
            f"an ONNX file needs the extra [onnx] (missing: {', '.join(lacking)}): "
            "pip install -e '.[onnx]'"
        )


def write(folder: Path, out: Path | None = None) -> float:
    """Write the model of a run to `out`, by default in its folder.

    The model takes uint8 [N, 48, 48] for any N and returns the probabilities of `fer.predict`,
    float32 [N, classes], computed in float32. Returns the largest difference from PyTorch's
    probabilities on test images. Raises UserError if the folder is not a run, the file cannot be
    written, or a probability differs by more than `TOLERANCE`.
    """
    from fer.runs import load_run

    net, config, trained_on = load_run(folder)
    graph, difference = _exported(net, config, trained_on)
    if out is None:
        out = folder / FILE
        drop_link(out)
    write_file(out, graph)
    return difference


def _exported(net: "Net", config: "Config", trained_on: "TrainedOn") -> tuple[bytes, float]:
    import onnx
    import torch

    model = _plain(net, config, len(trained_on.classes))
    example = torch.zeros(2, 48, 48, dtype=torch.uint8)
    with torch.no_grad():  # else operations for the gradient would be exported too
        program: Any = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    proto = program.model_proto
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, proto.graph):
        del part.metadata_props[:]  # source lines and paths of this machine
    onnx.helper.set_model_props(proto, _metadata(config, trained_on))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content, _difference(content, model, config.seed)


def _plain(net: "Net", config: "Config", classes: int) -> "torch.nn.Module":
    """Return the network in float32 with PyTorch's own layers, from pixels to probabilities."""
    import torch

    from fer.network.model import Net
    from fer.training.augment import scale, views

    plain = Net(
        config.model_copy(update={"precision": "float32"}), classes, torch.Generator(), None
    )
    plain.load_state_dict(net.state_dict())

    class FromPixels(torch.nn.Module):
        """Like `fer.training.evaluation.predict`, but for any batch size."""

        def __init__(self) -> None:
            super().__init__()
            self.net = plain

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen = [self.net(view) for view in views(scale(images, config.scaling), config.tta)]
            return torch.stack(seen).mean(0).softmax(1)

    return FromPixels().eval()


def _metadata(config: "Config", trained_on: "TrainedOn") -> dict[str, str]:
    """Return the metadata that a user of the file needs."""
    views = {
        "none": "one view of an image",
        "mirror": "scores of an image and its mirror image averaged",
        "ten-crop": "scores of five crops of a padded image and their mirror images averaged",
    }
    return {
        "classes": to_json(list(trained_on.classes)),
        "input": f"{INPUT}: uint8 [batch, 48, 48], grey 0 to 255, rows from the top",
        "output": f"{OUTPUT}: float32 [batch, {len(trained_on.classes)}], in the order of classes",
        "before": "the centre square of a picture, in grey (ITU-R 601), scaled to 48x48 with "
        "antialiasing",
        "size": "48x48",
        "colour": "grey",
        "scaling": f"{config.scaling}, in the graph",
        "tta": f"{config.tta}, in the graph: {views[config.tta]}",
        "precision": "float32",
        "opset": str(OPSET),
        "data": trained_on.name,
        "data_sha256": trained_on.sha256,
    }


def _difference(content: bytes, model: "torch.nn.Module", seed: int) -> float:
    """Return the largest difference of a probability between onnxruntime and PyTorch.

    Compares on synthetic faces and noise, alone and in batches. Raises UserError if it is too
    large.
    """
    import numpy as np
    import onnxruntime
    import torch

    from fer.data import demo

    generator = np.random.default_rng(seed)
    faces = demo.draw(np.arange(64) % 7, generator)
    noise = generator.integers(0, 256, (33, 48, 48), np.uint8)
    batches: list[NDArray[np.uint8]] = [faces, noise, faces[:1]]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for images in batches:
        (theirs,) = session.run([OUTPUT], {INPUT: images})
        with torch.no_grad():
            ours = model(torch.from_numpy(images)).numpy()
        worst = max(worst, float(np.abs(theirs - ours).max()))
    if not worst <= TOLERANCE:
        raise UserError(
            f"onnxruntime and PyTorch disagree: a probability differs by {worst:.1e}, more "
            f"than {TOLERANCE:.0e}; {FILE} is not written"
        )
    return worst
