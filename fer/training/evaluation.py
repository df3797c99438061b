"""What a network makes of images that it does not learn from."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.config import Config
from fer.data import Faces
from fer.training.augment import mirror, scale, views

# On a processor what fits its caches is fastest, on a GPU what fills it.
EVALUATION_BATCH = {"cpu": 64, "cuda": 1024}


class Evaluated(NamedTuple):
    """What `evaluate` says of N images, on their device."""

    loss: Tensor  # mean cross entropy
    confusion: Tensor  # int64 [classes, classes], rows true
    right: Tensor  # bool [N]


class Validation:
    """Validation images on their device, as each epoch sees them, and which of them were right.

    What an epoch changes stays in place: graphs hold addresses.
    """

    def __init__(self, faces: Faces, config: Config) -> None:
        device, count = faces.labels.device, len(faces)
        self.faces = faces
        self.mirrored: Tensor | None = None  # bool [N]
        if config.mirror_validation:
            self.mirrored = torch.zeros(count, dtype=torch.bool, device=device)
        self.right = torch.zeros(count, dtype=torch.bool, device=device)
        pinned = device.type == "cuda"  # else a copy would wait
        self.right_seen = torch.zeros(count, dtype=torch.bool, pin_memory=pinned)

    def redraw(self, generator: torch.Generator) -> None:
        """Draw anew which images are mirrored, where some are."""
        if self.mirrored is not None:
            self.mirrored.bernoulli_(0.5, generator=generator)

    def shown(self) -> Faces:
        """The faces as the network is to see them."""
        if self.mirrored is None:
            return self.faces
        images = mirror(self.faces.images.unsqueeze(1), self.mirrored).squeeze(1)
        return Faces(images, self.faces.labels, self.faces.classes)


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, config: Config) -> Tensor:
    """Scores [N, classes] of uint8 images [N, 48, 48] on the network's device.

    Those of the views of `config.tta` are averaged.
    """
    net.eval()
    batches = torch.split(images, EVALUATION_BATCH[images.device.type])
    scores = []
    for batch in batches:
        seen = [net(view) for view in views(scale(batch, config.scaling), config.tta)]
        scores.append(torch.stack(seen).mean(0) if len(seen) > 1 else seen[0])
    return torch.cat(scores)


def evaluate(net: nn.Module, faces: Faces, config: Config) -> Evaluated:
    """Predict `faces`, which are on the network's device: nothing waits for it."""
    scores = predict(net, faces.images, config)
    classes = len(faces.classes)
    predicted = scores.argmax(1)
    cells = faces.labels * classes + predicted
    counts = cells.new_zeros(classes * classes).index_add_(0, cells, torch.ones_like(cells))
    loss = F.cross_entropy(scores, faces.labels)
    return Evaluated(loss, counts.view(classes, classes), predicted == faces.labels)
