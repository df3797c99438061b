"""What a trained model sees in pictures: `python -m fer.predict runs/final face.jpg`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fer import command
from fer.errors import UserError


@dataclass(frozen=True)
class Options:
    """Print the probability of each emotion for image files of any size and colour mode.

    A picture should show one face and little else: its centred square is what the model sees.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder written by fer.train."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files."""


def main() -> None:
    options: Options = command.parse(Options, "fer.predict")
    if not options.images:
        raise UserError("name at least one image file")

    import numpy as np
    import torch

    from fer.data.decode import read_face
    from fer.fit import predict
    from fer.runs import load_run

    net, config, trained_on = load_run(options.run)
    faces = [read_face(str(path)) for path in options.images]
    scores = predict(net, torch.from_numpy(np.stack(faces)), config)
    names = [command.printable(str(path)) for path in options.images]
    width = max(map(len, names))
    print(f"{'':{width}}  {'':10}" + "".join(f"{name:>10}" for name in trained_on.classes))
    for name, row in zip(names, scores.softmax(1).tolist(), strict=True):
        best = trained_on.classes[max(range(len(row)), key=row.__getitem__)]
        shares = "".join(f"{share:10.1%}" for share in row)
        print(f"{name:{width}}  {best:10}{shares}")


if __name__ == "__main__":
    command.run(main)
