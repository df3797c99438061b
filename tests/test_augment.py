"""Batched augmentation matches torchvision's image by image, given the same parameters."""

import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as TF

from fer.config import Config
from fer.data import Faces
from fer.training.augment import (
    augment,
    erase,
    mirror,
    oversample,
    pad_and_crop,
    reread,
    rotate,
    scale,
    views,
    zoom,
)
from fer.training.draws import Draws, make_draws, redraw


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(40, 1, 48, 48, generator=torch.Generator().manual_seed(1))


def drawn(config: Config, count: int, seed: int) -> Draws:
    draws = make_draws(config, count, torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    redraw(draws, config, generator, generator)
    return draws


def test_scaling_equals_to_tensor_and_normalize() -> None:
    faces = torch.arange(256, dtype=torch.uint8).repeat(9).view(1, 48, 48)
    unit = TF.to_tensor(faces[0].numpy())
    torch.testing.assert_close(scale(faces, "zero-one")[0], unit)
    torch.testing.assert_close(scale(faces, "minus-one-one")[0], TF.normalize(unit, [0.5], [0.5]))


def test_mirror_equals_torchvision(images: torch.Tensor) -> None:
    chosen = torch.arange(40) % 3 == 0
    for before, after, flipped in zip(images, mirror(images, chosen), chosen, strict=True):
        assert torch.equal(after, TF.hflip(before) if flipped else before)


def test_rotation_equals_torchvision(images: torch.Tensor) -> None:
    degrees = torch.linspace(-180, 180, 40) + 0.123
    turned = rotate(images, degrees)
    for before, after, angle in zip(images, turned, degrees.tolist(), strict=True):
        # A pixel that falls between two may be rounded to either.
        differing = (after != TF.rotate(before, angle)).float().mean()
        assert differing < 0.01


def test_pad_and_crop_equals_torchvision(images: torch.Tensor) -> None:
    top, left = torch.arange(40) % 9, torch.arange(40) * 7 % 9
    cropped = pad_and_crop(images, 4, top, left)
    for i, after in enumerate(cropped):
        padded = TF.pad(images[i], [4])
        assert torch.equal(after, TF.crop(padded, int(top[i]), int(left[i]), 48, 48))


def test_zoom_equals_torchvision(images: torch.Tensor) -> None:
    factors = torch.linspace(0.7, 1.4, 40)
    for before, after, factor in zip(images, zoom(images, factors), factors, strict=True):
        expected = TF.affine(
            before, 0, [0, 0], float(factor), [0.0], interpolation=TF.InterpolationMode.BILINEAR
        )
        # Outside its border torchvision mixes in its fill, here zeros are further pixels.
        torch.testing.assert_close(after[:, 8:-8, 8:-8], expected[:, 8:-8, 8:-8])


def test_erasing_leaves_a_share_of_the_images_alone_and_a_rectangle_less_of_the_others() -> None:
    images = torch.ones(4000, 1, 48, 48)
    config = Config(erasing=0.3, mirror=False)
    draws = drawn(config, 4000, seed=4)
    assert draws.erased is not None
    erased = erase(images, 0.3, draws.erased) == 0
    shares = erased.flatten(1).float().mean(1)
    assert 0.27 < (shares > 0).float().mean() < 0.33
    shares = shares[shares > 0]
    assert 0.01 < shares.min() < 0.03
    assert 0.17 < shares.max() < 0.22
    for area in erased[erased.flatten(1).any(1)]:
        rows, columns = area[0].any(1), area[0].any(0)
        assert torch.equal(area[0], rows[:, None] & columns)  # a full rectangle
    # Every pixel is as likely as its mirror image to be erased.
    places = erased.float().mean((0, 1))
    torch.testing.assert_close(places, places.flip(1), atol=0.02, rtol=0)
    assert torch.equal(augment(images, config, draws) == 0, erased)


def test_ten_crop_sees_what_torchvisions_sees(images: torch.Tensor) -> None:
    seen = list(views(images[:3], "ten-crop"))
    expected = TF.ten_crop(TF.pad(images[:3], [4]), [48, 48])
    assert len(seen) == 10
    for view in expected:
        assert sum(torch.equal(view, other) for other in seen) == 1
    assert [len(list(views(images, kind))) for kind in ("none", "mirror")] == [1, 2]


def test_each_image_gets_a_draw_of_its_own_and_the_generator_decides_it() -> None:
    same = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(2)).repeat(64, 1, 1, 1)
    config = Config(rotation=20, crop_padding=4)
    first = augment(same, config, drawn(config, 64, seed=3))
    assert len({image.numpy().tobytes() for image in first}) > 60
    assert torch.equal(first, augment(same, config, drawn(config, 64, seed=3)))
    assert not torch.equal(first, augment(same, config, drawn(config, 64, seed=4)))


def test_about_half_of_the_images_are_mirrored(images: torch.Tensor) -> None:
    many = images[:1].repeat(1000, 1, 1, 1)
    after = augment(many, Config(), drawn(Config(), 1000, seed=5))
    flipped = (after == many.flip(-1)).flatten(1).all(1).sum()
    assert 430 < flipped < 570


def test_oversampling_mirrors_then_rotates_and_quadruples_one_class() -> None:
    generator = torch.Generator().manual_seed(6)
    pictures = torch.randint(0, 256, (30, 48, 48), generator=generator, dtype=torch.uint8)
    faces = Faces(pictures, torch.arange(30) % 3, ("angry", "disgust", "fear"))
    more = oversample(faces, Config(), generator)
    assert more.counts() == {"angry": 10, "disgust": 40, "fear": 10}
    assert torch.equal(more.images[:30], pictures)
    disgust = pictures[faces.labels == 1]
    assert torch.equal(more.images[30:40], disgust.flip(-1))
    turned = more.images[40:]
    for before, after in zip(torch.cat([disgust, disgust.flip(-1)]), turned, strict=True):
        centred = before.unsqueeze(0).float() - 127.5
        candidates = [TF.rotate(centred, angle) + 127.5 for angle in range(-10, 11)]
        agreements = [(c.round().to(torch.uint8)[0] == after).float().mean() for c in candidates]
        assert max(agreements) > 0.99


def test_copies_scaled_twice_are_what_the_reports_listing_reads() -> None:
    pictures = torch.randint(
        0, 256, (5, 48, 48), generator=torch.Generator().manual_seed(7), dtype=torch.uint8
    )
    pictures[0].view(-1)[:256] = torch.arange(256)
    faces = Faces(pictures, torch.zeros(5, dtype=torch.int64), ("disgust", "fear"))
    more = oversample(faces, Config(copies="twice"), torch.Generator().manual_seed(8))
    degrees = torch.randint(-10, 11, (10,), generator=torch.Generator().manual_seed(8)).tolist()
    # Figures 3a and 3b, but for the random flips.
    to_image, to_tensor = T.ToPILImage(), T.Compose([T.ToTensor(), T.Normalize([0.5], [0.5])])
    images = [to_image(picture) for picture in pictures]
    for i in range(5):
        images.append(to_image(TF.hflip(to_tensor(images[i]))))
    for j in range(10):
        images.append(to_image(TF.rotate(to_tensor(images[j]), degrees[j])))
    listing = torch.stack([TF.pil_to_tensor(image)[0] for image in images])
    assert torch.equal(more.images[:10], listing[:10])
    assert (more.images[10:] != listing[10:]).float().mean() < 0.01  # a pixel between two
    assert more.counts() == {"disgust": 20, "fear": 0}
    greys = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    wrapped = reread(scale(greys, "minus-one-one")).long()
    assert ((wrapped - (2 * greys.long() + 1)) % 256).remainder(255).max() <= 1


def test_oversampling_none_or_a_removed_class_changes_nothing() -> None:
    faces = Faces(torch.zeros(4, 48, 48, dtype=torch.uint8), torch.arange(4) % 2, ("fear", "sad"))
    assert oversample(faces, Config(), torch.Generator()) is faces
    assert oversample(faces, Config(oversample="none"), torch.Generator()) is faces


def test_dropout_keeps_its_share() -> None:
    kept = drawn(Config(dropout=0.3), 500, seed=6).kept
    assert kept is not None
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)
