"""Drawn demo faces to try the program without FER-2013: seven expressions, varied and noisy.

They have FER-2013's shape, imbalance and label noise, but not its difficulty: results say nothing
about real faces.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fer.config import EMOTIONS
from fer.data.decode import SIZE
from fer.data.faces import USAGES, Dataset, canonical

COUNTS = {"Training": 1200, "PublicTest": 300, "PrivateTest": 300}
SHARES = np.array([3995, 436, 4097, 7215, 4830, 3171, 4965]) / 28709  # FER-2013's
WRONG_LABELS = 0.05

# Each expression as differences from a neutral face, in face units (the face is about 1.4 wide,
# y grows downward): inner and outer end of the brows, eye opening, mouth width, curve of the
# mouth (positive: corners down), mouth opening, tilt of the mouth, wrinkles next to the nose.
FEATURES = ("brow_in", "brow_out", "eye", "width", "curve", "open", "tilt", "wrinkle")
NEUTRAL = np.array([0.00, 0.00, 0.090, 0.25, 0.00, 0.015, 0.00, 0.0])
EXPRESSIONS = {
    "angry": [0.13, -0.05, -0.030, -0.02, 0.07, 0.005, 0.00, 0.2],
    "disgust": [0.08, 0.02, -0.045, 0.00, 0.06, 0.010, 0.12, 1.0],
    "fear": [-0.17, -0.07, 0.060, 0.00, 0.03, 0.070, 0.00, 0.0],
    "happy": [-0.02, 0.00, -0.020, 0.11, -0.16, 0.040, 0.00, 0.0],
    "sad": [-0.12, 0.06, -0.030, -0.03, 0.13, 0.000, 0.00, 0.0],
    "surprise": [-0.16, -0.16, 0.080, -0.10, 0.00, 0.170, 0.00, 0.0],
    "neutral": [0.00, 0.00, 0.000, 0.00, 0.00, 0.000, 0.00, 0.0],
}

Array = NDArray[np.float64]


@cache
def demo_faces() -> Dataset:
    """Return 1,200 Training, 300 PublicTest and 300 PrivateTest faces, always the same."""
    generator = np.random.default_rng(2013)
    total = sum(COUNTS.values())
    drawn = generator.choice(len(EMOTIONS), size=total, p=SHARES)
    # Small batches stay in the CPU cache, which halves the time.
    images = np.concatenate(
        [draw(drawn[start : start + 50], generator) for start in range(0, total, 50)]
    )
    wrong = generator.random(total) < WRONG_LABELS
    labels = np.where(wrong, generator.integers(len(EMOTIONS), size=total), drawn)
    usages = np.repeat([USAGES.index(usage) for usage in COUNTS], list(COUNTS.values()))
    return canonical("demo", images, labels.astype(np.int64), usages.astype(np.uint8))


def draw(emotions: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a face [48, 48] for each class index in `emotions` [N]; pose, light and noise vary."""
    count = len(emotions)

    def uniform(low: float, high: float) -> Array:
        return generator.uniform(low, high, size=(count, 1, 1))

    strength = uniform(0.45, 1.15)
    target = np.array([EXPRESSIONS[name] for name in EMOTIONS])[emotions]
    jitter = generator.normal(
        scale=[0.02, 0.02, 0.012, 0.02, 0.02, 0.008, 0.02, 0.1], size=(count, len(FEATURES))
    )
    values = NEUTRAL + strength[:, :, 0] * target + jitter
    face = {name: values[:, i, None, None] for i, name in enumerate(FEATURES)}

    x, y = _posed_grid(uniform)
    skin, hair, back = uniform(0.5, 0.9), uniform(0.05, 0.3), uniform(0.0, 0.6)
    picture = np.broadcast_to(back, x.shape)
    picture = _paint(picture, hair, 1 - np.hypot(x / 0.76, (y + 0.12) / 0.94))
    picture = _paint(picture, skin, 1 - np.hypot(x / 0.66, (y - 0.04) / 0.84))
    for side in (-1, 1):
        across = side * x  # grows outward
        opening = np.clip(face["eye"], 0.02, None)
        eye = 1 - np.hypot((across - 0.28) / 0.14, (y + 0.15) / opening)
        picture = _paint(picture, np.minimum(skin + 0.35, 1.0), eye, sharp=4)
        pupil = np.minimum(0.065 - np.hypot(across - 0.28, y + 0.15), 0.1 * eye)
        picture = _paint(picture, 0.05, pupil, sharp=40)
        along = np.clip((across - 0.12) / 0.32, 0, 1)
        brow = -0.33 + face["brow_in"] * (1 - along) + face["brow_out"] * along
        distance = np.hypot(across - 0.12 - 0.32 * along, y - brow)
        picture = _paint(picture, hair * 0.6, 0.045 - distance, sharp=40)
        crease = np.abs(y - 0.10 - 0.6 * (across - 0.1)) + np.maximum(np.abs(across - 0.14), 0.07)
        depth = 0.6 * np.clip(face["wrinkle"], 0, 1)
        picture = _paint(picture, skin * (1 - depth), 0.115 - crease, sharp=40)
    nose = np.hypot(np.abs(x) * 1.3, np.maximum(np.abs(y - 0.08) - 0.12, 0))
    picture = _paint(picture, skin * 0.8, 0.04 - nose, sharp=30)

    width = np.clip(face["width"], 0.08, None)
    bend = face["curve"] * ((x / width) ** 2 - 0.4) + face["tilt"] * x / width
    mouth = 1 - np.hypot(x / width, (y - 0.42 - bend) / (np.clip(face["open"], 0, None) + 0.04))
    picture = _paint(picture, skin * 0.45, mouth, sharp=6)
    inside = 1 - np.hypot(x / width, (y - 0.42 - bend) / np.clip(face["open"], 0.004, None))
    picture = _paint(picture, 0.05, inside, sharp=3)

    light = 1 + uniform(-0.35, 0.35) * x + uniform(-0.25, 0.25) * y
    picture = picture * light * uniform(0.7, 1.15)
    noisy = picture + generator.normal(size=picture.shape) * uniform(0.01, 0.08)
    return np.clip(np.rint(noisy * 255), 0, 255).astype(np.uint8)


def _posed_grid(uniform: Callable[[float, float], Array]) -> tuple[Array, Array]:
    """Return face coordinates [N, 48, 48] of every pixel: rotated, scaled, shifted per face."""
    axis = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    angle, scale = np.deg2rad(uniform(-14, 14)), uniform(0.85, 1.15)
    x, y = x - uniform(-0.14, 0.14), y - uniform(-0.14, 0.14)
    turned_x = (np.cos(angle) * x + np.sin(angle) * y) / scale
    turned_y = (np.cos(angle) * y - np.sin(angle) * x) / scale
    # On a head turned sideways one half is narrower than the other.
    return turned_x * (1 + uniform(-0.25, 0.25) * turned_x), turned_y


def _paint(picture: Array, shade: Array | float, inside: Array, sharp: float = 15) -> Array:
    """Paint `shade` over `picture` where `inside` is positive, with a soft edge."""
    cover = 1 / (1 + np.exp(-np.clip(inside * sharp, -30, 30)))
    return picture * (1 - cover) + shade * cover
