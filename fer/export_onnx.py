"""A trained model as an ONNX file: `python -m fer.export_onnx runs/final`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fer import command, onnx_file
from fer.files import check_file


@dataclass(frozen=True)
class Options:
    """Write model.onnx of a run that has none, as fer.train does where the extra [onnx] is there.

    It takes uint8 [batch, 48, 48], grey 0 to 255, and gives the probabilities of the classes:
    scaling and the views of --tta are in the graph, names of the classes in the metadata. It is
    checked with onnxruntime against PyTorch to 1e-4 before it is written.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    out: Path | None = None
    """ONNX file to write, by default model.onnx in the folder; one that is there is replaced."""

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
