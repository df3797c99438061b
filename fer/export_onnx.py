"""Export a trained model as an ONNX file: `python -m fer.export_onnx runs/final`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fer import command, onnx_file
from fer.files import check_file


@dataclass(frozen=True)
class Options:
    """Write model.onnx for a run, as fer.train does if the extra [onnx] is installed.

    The model takes uint8 [batch, 48, 48], grey 0 to 255, and returns class probabilities. Scaling
    and the views of --tta are part of the graph; class names are in the metadata. Before writing,
    its output is checked with onnxruntime against PyTorch to 1e-4.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    out: Path | None = None
    """ONNX file to write, replacing an existing one; by default model.onnx in the run folder."""

    def __post_init__(self) -> None:
        check_file("--out", self.out)


def main() -> None:
    options: Options = command.parse(Options, "fer.export_onnx")
    onnx_file.require()
    difference = onnx_file.write(options.run, options.out)
    out = options.out or options.run / onnx_file.FILE
    print(
        f"{command.printable(str(out))}: opset {onnx_file.OPSET}, any batch, probabilities within "
        f"{difference:.1e} of PyTorch's"
    )


if __name__ == "__main__":
    command.run(main)
