"""Evaluate a network on images that it does not train on."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fer.config import Config
from fer.data import Faces
from fer.training.augment import mirror, scale, views

# Fastest on a CPU: a batch that fits the caches; on a GPU: one that saturates it.
EVALUATION_BATCH = {"cpu": 64, "cuda": 1024}


class Evaluated(NamedTuple):
    """Results of `evaluate` on N images, on their device."""

    loss: Tensor  # mean cross entropy
    confusion: Tensor  # int64 [classes, classes], rows true
    right: Tensor  # bool [N]


class Validation:
    """Validation images on their device, as each epoch sees them, and which were predicted right.

    Tensors are updated in place because CUDA graphs hold their addresses.
    """

    def __init__(self, faces: Faces, config: Config) -> None:
        device, count = faces.labels.device, len(faces)
        self.faces = faces
        self.mirrored: Tensor | None = None  # bool [N]
        if config.mirror_validation:
            self.mirrored = torch.zeros(count, dtype=torch.bool, device=device)
        self.right = torch.zeros(count, dtype=torch.bool, device=device)
        pinned = device.type == "cuda"  # for asynchronous copies
        self.right_seen = torch.zeros(count, dtype=torch.bool, pin_memory=pinned)

    def redraw(self, generator: torch.Generator) -> None:
        """Redraw which images are mirrored, if any are to be."""
        if self.mirrored is not None:
            self.mirrored.bernoulli_(0.5, generator=generator)

    def shown(self) -> Faces:
        """Return the faces as the network sees them."""
        if self.mirrored is None:
            return self.faces
        images = mirror(self.faces.images.unsqueeze(1), self.mirrored).squeeze(1)
        return Faces(images, self.faces.labels, self.faces.classes)


@torch.no_grad()
def predict(net: nn.Module, images: Tensor, config: Config) -> Tensor:
    """Return the scores [N, classes] of uint8 images [N, 48, 48] on the network's device.

    Averages the scores over the views of `config.tta`.
    """
    net.eval()
    batches = torch.split(images, EVALUATION_BATCH[images.device.type])
    scores = []
    for batch in batches:
        seen = [net(view) for view in views(scale(batch, config.scaling), config.tta)]
        scores.append(torch.stack(seen).mean(0) if len(seen) > 1 else seen[0])
    return torch.cat(scores)


def evaluate(net: nn.Module, faces: Faces, config: Config) -> Evaluated:
    """Evaluate `faces`, which must be on the network's device. Does not synchronise with it."""
    scores = predict(net, faces.images, config)
    classes = len(faces.classes)
    predicted = scores.argmax(1)
    cells = faces.labels * classes + predicted
    counts = cells.new_zeros(classes * classes).index_add_(0, cells, torch.ones_like(cells))
    loss = F.cross_entropy(scores, faces.labels)
    return Evaluated(loss, counts.view(classes, classes), predicted == faces.labels)
