"""Augment whole batches on the device, with random parameters drawn in advance per image."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from fer.config import Config
from fer.data import Faces
from fer.training.draws import Draws

TEN_CROP_PADDING = 4  # pixels


def scale(images: Tensor, scaling: str) -> Tensor:
    """Scale uint8 [N, 48, 48] to float32 [N, 1, 48, 48] in [0, 1] or [-1, 1].

    Both are in the report (chapter 2, 6).
    """
    unit = images.unsqueeze(1).float().div_(255)
    return unit if scaling == "zero-one" else unit.mul_(2).sub_(1)


def augment(images: Tensor, config: Config, drawn: Draws) -> Tensor:
    """Augment scaled images [N, 1, 48, 48] with the parameters `drawn` for them."""
    if drawn.mirrored is not None:
        images = mirror(images, drawn.mirrored)
    if drawn.degrees is not None:
        images = rotate(images, drawn.degrees)
    if drawn.factors is not None:
        images = zoom(images, drawn.factors)
    if drawn.top is not None and drawn.left is not None:
        images = pad_and_crop(images, config.crop_padding, drawn.top, drawn.left)
    if drawn.erased is not None:
        images = erase(images, config.erasing, drawn.erased)
    return images


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Flip the images left to right where `chosen` [N] (bool) is true."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image counter-clockwise by its `degrees` [N]: nearest pixel, zero outside.

    Matches torchvision's `rotate` on a tensor, but takes one angle per image.
    """
    size = images.shape[-1]
    angle = degrees * (math.pi / 180)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    axis = torch.arange(size, device=images.device, dtype=images.dtype) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    from_x = (cosine * x - sine * y + (size - 1) / 2).round().long()
    from_y = (sine * x + cosine * y + (size - 1) / 2).round().long()
    inside = (from_x >= 0) & (from_x < size) & (from_y >= 0) & (from_y < size)
    flat_index = from_y.clamp(0, size - 1) * size + from_x.clamp(0, size - 1)
    turned = images.flatten(1).gather(1, flat_index.flatten(1)).view_as(images)
    return turned * inside.unsqueeze(1)


def zoom(images: Tensor, factors: Tensor) -> Tensor:
    """Scale each image by its factor in `factors` [N] about the centre: bilinear, zero outside."""
    shrink = torch.zeros(len(images), 2, 3, device=images.device)
    shrink[:, 0, 0] = shrink[:, 1, 1] = 1 / factors
    grid = F.affine_grid(shrink, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def erase(images: Tensor, probability: float, drawn: Tensor) -> Tensor:
    """Set a rectangle of some images to zero (random erasing, arXiv 1708.04896).

    `drawn` [N, 5], uniform in [0, 1), determines whether an image is erased, and the rectangle's
    area (2 to 20% of the image), aspect ratio (height/width, 0.3 to 3.3, log-uniform), top and
    left.
    """
    size = images.shape[-1]
    whether, area, ratio, top, left = drawn.unbind(1)
    area = (0.02 + 0.18 * area) * size**2
    ratio = torch.exp(math.log(3.3) * (2 * ratio - 1))
    inside = (whether < probability)[:, None, None]
    for length, start, axis in (((area * ratio).sqrt(), top, 2), ((area / ratio).sqrt(), left, 1)):
        length = length.round().clamp(1, size)
        start = (start * (size - length + 1)).floor()
        pixel = torch.arange(size, device=images.device)
        within = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
        inside = inside & within.unsqueeze(axis)
    return images.masked_fill(inside.unsqueeze(1), 0)


def views(images: Tensor, tta: str) -> Iterator[Tensor]:
    """Yield scaled images [N, 1, 48, 48] and their test-time augmentations.

    "mirror" adds the mirror images; "ten-crop" yields the centre and the four corner crops of the
    images padded by 4 zeros, and the mirror images of these five (report, figure 3a).
    """
    yield images
    if tta == "ten-crop":
        size, padding = images.shape[-1], TEN_CROP_PADDING
        padded = F.pad(images, [padding] * 4)
        for top in (0, 2 * padding):
            for left in (0, 2 * padding):
                corner = padded[..., top : top + size, left : left + size]
                yield corner
                yield corner.flip(-1)
    if tta != "none":
        yield images.flip(-1)


def pad_and_crop(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Pad with zeros, then crop each image to its original size at its `top` and `left` [N].

    Both are in 0..2 * padding. This is the report's RandomCrop with padding (figure 3a).
    """
    size = images.shape[-1]
    padded = F.pad(images, [padding] * 4).squeeze(1)
    axis = torch.arange(size, device=images.device)
    rows = (top[:, None] + axis)[:, :, None]
    columns = (left[:, None] + axis)[:, None, :]
    image = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[image, rows, columns].unsqueeze(1)


def oversample(faces: Faces, config: Config, generator: torch.Generator) -> Faces:
    """Return `faces` with the class `config.oversample` quadrupled, as in the report (figure 3b).

    Adds a mirrored copy of each of its images, then a copy of all of these rotated by a random
    whole number of degrees in -10..10. For training images only, after the split. Does nothing
    if the class was removed from the data.

    With `config.copies` "twice", each copy is stored scaled and scaled again when it is read, as
    in the report's listing; a mirrored and rotated copy goes through this twice.
    """
    if config.oversample not in faces.classes:
        return faces
    label = faces.classes.index(config.oversample)
    originals = faces.images[faces.labels == label]
    degrees = torch.randint(-10, 11, (2 * len(originals),), generator=generator)
    copies = _copies_twice if config.copies == "twice" else _copies
    added = copies(originals, degrees.to(originals.device).float(), config.scaling)
    labels = torch.full_like(faces.labels[:1], label).expand(len(added))
    return Faces(
        torch.cat([faces.images, added]), torch.cat([faces.labels, labels]), faces.classes
    )


def _copies(originals: Tensor, degrees: Tensor, scaling: str) -> Tensor:
    """Return N mirrored images, then all 2 N rotated by `degrees`: uint8 [3 N, 48, 48]."""
    mirrored = originals.flip(-1)
    both = torch.cat([originals, mirrored]).unsqueeze(1).float()
    # Fill the corners with the value that becomes zero when scaled, as in the report.
    grey = 0.0 if scaling == "zero-one" else 127.5
    turned = rotate(both - grey, degrees) + grey
    return torch.cat([mirrored, turned.round().to(torch.uint8).squeeze(1)])


def _copies_twice(originals: Tensor, degrees: Tensor, scaling: str) -> Tensor:
    """Like `_copies`, but store each copy scaled and reread it before use."""
    mirrored = reread(scale(originals.flip(-1), scaling))
    both = scale(torch.cat([originals, mirrored]), scaling)
    return torch.cat([mirrored, reread(rotate(both, degrees))])


def reread(scaled: Tensor) -> Tensor:
    """Convert scaled images [N, 1, 48, 48] as ToPILImage does: uint8 [N, 48, 48].

    It assumes [0, 1]: values outside 0..255 after multiplication by 255 wrap around, as in PyTorch
    and NumPy conversions on x86.
    """
    return scaled.mul(255).to(torch.int32).remainder(256).to(torch.uint8).squeeze(1)
