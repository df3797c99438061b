"""Three implementations of the report's final settings, to compare in one run.

Each is a generator that trains and validates on the same images and yields the seconds of each
epoch. All use the report's network, Adam and cross entropy.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
import torchvision.transforms as T
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset

from fer.config import Config
from fer.data import Faces
from fer.training.fit import Run, progress, together
from fer.training.memory import reuse_memory


class ReportNet(nn.Module):
    """The report's network as listed there (figures 4a and 4b), with PyTorch's layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 44, 5, padding=1), nn.PReLU(), nn.MaxPool2d(3, 2))
        self.conv2 = nn.Sequential(nn.Conv2d(44, 40, 5, padding=1), nn.PReLU(), nn.MaxPool2d(3, 2))
        self.conv3 = nn.Sequential(nn.Conv2d(40, 36, 3, padding=1), nn.PReLU(), nn.AvgPool2d(3, 1))
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for width in (44, 40, 36)])
        self.residual = nn.Conv2d(40, 40, 1)
        self.dense = nn.Sequential(
            nn.Linear(1764, 70), nn.ELU(), nn.Linear(70, classes), nn.Tanh()
        )

    def forward(self, images: Tensor) -> Tensor:
        out = self.norms[0](self.conv1(images))
        out = self.conv2(out)
        out = self.norms[1](out) + self.residual(out)
        out = self.norms[2](self.conv3(out))
        scores: Tensor = self.dense(out.flatten(1))
        return scores


class ReportDataset(Dataset[tuple[Tensor, int]]):
    """Transforms images one by one with PIL, as in the report's figure 3a."""

    def __init__(self, faces: Faces) -> None:
        self.images = faces.images.unsqueeze(-1).numpy()
        self.labels = faces.labels.tolist()
        self.transform = T.Compose(
            [
                T.ToPILImage(),
                T.ToTensor(),
                T.Normalize(mean=[0.5], std=[0.5]),
                T.RandomHorizontalFlip(),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def report(
    training: Faces, validation: Faces, config: Config, device: torch.device
) -> Iterator[float]:
    """(a) The report's pipeline: a DataLoader over PIL transforms, a sync every step."""
    net = ReportNet(len(training.classes)).to(device)
    optimizer = optim.Adam(net.parameters(), lr=config.lr)
    criterion = nn.CrossEntropyLoss()
    train_loader = DataLoader(ReportDataset(training), config.batch_size, shuffle=True)
    test_loader = DataLoader(ReportDataset(validation), config.batch_size)
    while True:
        start = time.perf_counter()
        net.train()
        train_loss = 0.0
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
        net.eval()
        right = 0
        with torch.no_grad():
            for images, labels in test_loader:
                scores = net(images.to(device))
                right += (scores.argmax(1) == labels.to(device)).sum().item()
        yield time.perf_counter() - start


def plain(
    training: Faces, validation: Faces, config: Config, device: torch.device
) -> Iterator[float]:
    """(b) A careful plain loop: data in memory, batched augmentation, channels last, one sync."""
    net = ReportNet(len(training.classes)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optim.Adam(net.parameters(), lr=config.lr)
    images, labels, test_images, test_labels = (
        tensor.to(device)
        for tensor in (training.images, training.labels, validation.images, validation.labels)
    )

    def scaled(batch: Tensor) -> Tensor:
        return (batch.unsqueeze(1).float() / 127.5 - 1).to(memory_format=torch.channels_last)

    while True:
        start = time.perf_counter()
        net.train()
        train_loss = torch.zeros((), device=device)
        for batch in torch.randperm(len(labels), device=device).split(config.batch_size):  # type: ignore[no-untyped-call]
            inputs = scaled(images[batch])
            mirrored = torch.rand(len(batch), 1, 1, 1, device=device) < 0.5
            inputs = torch.where(mirrored, inputs.flip(-1), inputs)
            loss = nn.functional.cross_entropy(net(inputs), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            train_loss += loss.detach()
        net.eval()
        right = torch.zeros((), dtype=torch.int64, device=device)
        with torch.no_grad():
            for first in range(0, len(test_labels), 500):
                scores = net(scaled(test_images[first : first + 500]))
                right += (scores.argmax(1) == test_labels[first : first + 500]).sum()
        float(train_loss), int(right)
        yield time.perf_counter() - start


def ours(
    training: Faces, validation: Faces, config: Config, device: torch.device, lanes: int = 1
) -> Iterator[float]:
    """(c) and (d) This project's training as in a study, with `lanes` concurrent runs.

    All are driven by this thread. Yields the seconds in which each run trains one epoch.
    """
    reuse_memory()
    endless = config.model_copy(update={"epochs": 10_000, "oversample": "none"})
    runs = [
        Run(endless.model_copy(update={"seed": seed}), training, device) for seed in range(lanes)
    ]
    start = time.perf_counter()
    epochs = together([progress(run, validation) for run in runs])
    for count, _ in enumerate(epochs, start=1):
        if count % lanes == 0:
            yield time.perf_counter() - start
            start = time.perf_counter()  # exclude the turns of other pipelines


PIPELINES: dict[str, Any] = {"report": report, "plain": plain, "ours": ours}
