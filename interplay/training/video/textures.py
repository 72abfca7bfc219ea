"""What is behind the scene: plain walls, patterns, noise with the spectrum of photographs, and real photographs.

Natural images have amplitude spectra that fall as 1/f (Field 1987); noise of that kind has their statistics without
their content. Real ones come with scikit-image, whose `skimage.data` names source and licence of each.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import cv2
import numpy as np

SIZE = 240  # pixels of a backdrop; the camera looks at the middle two thirds of it and drifts
TRAINING_PHOTOS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "rocket.jpg")
HELD_OUT_PHOTOS = ("camera.png", "gravel.png", "hubble_deep_field.jpg")
TRAINING_KINDS = ("plain", "gradient", "stripes", "noise", "noise", "photo", "photo")
PLAIN_KINDS = ("plain", "gradient")
HELD_OUT_KINDS = ("checks", "noise", "photo")  # noise of spectral slopes that training leaves out


@cache
def photographs(held_out: bool) -> tuple[np.ndarray, ...]:
    """The photographs of one side, uint8 (h, w, 3); none if scikit-image is not installed."""
    try:
        import skimage
    except ImportError:
        return ()
    folder = Path(skimage.__file__).parent / "data"
    names = HELD_OUT_PHOTOS if held_out else TRAINING_PHOTOS
    read = [cv2.imread(str(folder / name), cv2.IMREAD_COLOR) for name in names if (folder / name).is_file()]
    return tuple(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in read if picture is not None)


def backdrop(
    rng: random.Random, *, held_out: bool = False, saturation: float = 1.0, plain: bool = False
) -> np.ndarray:
    """A background, uint8 (240, 240, 3). saturation: below 1 it is greyer, so that colours stand out. plain: a wall."""
    kind = rng.choice(PLAIN_KINDS if plain else HELD_OUT_KINDS if held_out else TRAINING_KINDS)
    photos = photographs(held_out) if kind == "photo" else ()
    if kind == "photo" and not photos:
        kind = "noise"
    noise = np.random.default_rng(rng.getrandbits(32))
    if kind == "photo":
        picture = _crop(rng.choice(photos), rng)
    elif kind == "noise":
        picture = _spectrum(noise, rng.uniform(1.45, 1.6) if held_out else rng.choice((1.0, 1.2, 1.35, 1.75, 2.0)), rng)
    else:
        picture = _pattern(kind, rng)
    grey = picture.mean(2, keepdims=True)
    picture = grey + (picture - grey) * saturation
    # A room is seldom lit to full contrast; a little of it is enough to be in the way.
    contrast = rng.uniform(0.35, 0.9)
    mean = picture.mean()
    return np.clip(mean + (picture - mean) * contrast + rng.uniform(-25, 25), 0, 255).astype(np.uint8)


def _crop(photo: np.ndarray, rng: random.Random) -> np.ndarray:
    height, width = photo.shape[:2]
    side = int(min(height, width) * rng.uniform(0.45, 1.0))
    top, left = rng.randint(0, height - side), rng.randint(0, width - side)
    part = cv2.resize(photo[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return (part[:, ::-1] if rng.random() < 0.5 else part).astype(np.float32)


def _spectrum(noise: np.random.Generator, slope: float, rng: random.Random) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power of -slope; the channels are correlated as in photos."""
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    frequency[0, 0] = 1.0
    planes = []
    for _ in range(2):
        white = np.fft.rfft2(noise.standard_normal((SIZE, SIZE)).astype(np.float32))
        plane = np.fft.irfft2(white * frequency**-slope, s=(SIZE, SIZE))
        planes.append(plane / plane.std())
    tint = np.array([rng.uniform(-0.6, 0.6) for _ in range(3)])
    base = np.array([rng.uniform(50, 200) for _ in range(3)]) * 0.4 + rng.uniform(40, 120)
    return (base + 45 * (planes[0][..., None] + planes[1][..., None] * tint)).astype(np.float32)


def _pattern(kind: str, rng: random.Random) -> np.ndarray:
    first, second = (np.array([rng.uniform(20, 235) for _ in range(3)], np.float32) for _ in range(2))
    if kind == "plain":
        return np.broadcast_to(first, (SIZE, SIZE, 3)).copy()
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "gradient":
        mix = (along - along.min()) / np.ptp(along)
    else:
        waves = rng.uniform(3, 11)
        mix = np.sin(2 * np.pi * waves * along) > 0
        if kind == "checks":
            mix = mix ^ (np.sin(2 * np.pi * waves * across) > 0)
        mix = mix.astype(np.float32) * 0.6
    return first + (second - first) * mix[..., None]
