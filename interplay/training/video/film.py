"""From actors to frames: a drifting camera, light that flickers, things in the way, and a sensor with noise."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from interplay.core.types import MICRO_TURN_S
from interplay.model.patches import FRAME_SIDE
from interplay.training.video.textures import SIZE, backdrop

SIDE = 2 * FRAME_SIDE  # drawn at twice the size, then averaged
_SHIFT = 4  # OpenCV's fixed-point coordinates: sixteenths of a pixel
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks: world (0..1, y down) to pixels. matrix: float (2, 3). scale: pixels per world unit."""

    matrix: np.ndarray
    scale: float

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Fixed-point pixels, int32 (n, 2), of world points (n, 2)."""
        return np.rint((points @ self.matrix[:, :2].T + self.matrix[:, 2]) * (1 << _SHIFT)).astype(np.int32)


class Canvas:
    """A picture being drawn, uint8 (160, 160, 3). Sizes are in world units, colours RGB."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def stroke(self, view: View, points: np.ndarray, width: float, colour: Colour) -> None:
        """A line through the points with round ends."""
        thickness = max(1, round(width * view.scale))
        cv2.polylines(self.pixels, [view.pixels(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)

    def polygon(self, view: View, points: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
        if opacity >= 1:
            cv2.fillPoly(self.pixels, [view.pixels(points)], colour, cv2.LINE_AA, _SHIFT)
            return
        over = self.pixels.copy()
        cv2.fillPoly(over, [view.pixels(points)], colour, cv2.LINE_AA, _SHIFT)
        cv2.addWeighted(over, opacity, self.pixels, 1 - opacity, 0, self.pixels)

    def disc(self, view: View, centre: tuple[float, float], radius: float, colour: Colour) -> None:
        x, y = view.pixels(np.array([centre]))[0]
        size = max(1, round(radius * view.scale * (1 << _SHIFT)))
        cv2.circle(self.pixels, (int(x), int(y)), size, colour, -1, cv2.LINE_AA, _SHIFT)


class Actor(Protocol):
    """Something that can be drawn as it is at a time."""

    def draw(self, canvas: Canvas, view: View, time: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Wobble:
    """A smooth random curve around zero: the sum of three slow sines."""

    parts: tuple[tuple[float, float, float], ...] = ()  # amplitude, radians per second, offset

    @classmethod
    def random(cls, rng: random.Random, amplitude: float) -> Wobble:
        return cls(
            tuple((amplitude * rng.uniform(0.2, 0.6), rng.uniform(0.2, 2.2), rng.uniform(0, 6.28)) for _ in range(3))
        )

    def at(self, time: float) -> float:
        return sum(a * math.sin(w * time + o) for a, w, o in self.parts)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the camera and the room do to a picture. All of it is smooth in time but the noise."""

    drift_x: Wobble = field(default_factory=Wobble)
    drift_y: Wobble = field(default_factory=Wobble)
    roll: Wobble = field(default_factory=Wobble)
    zoom: Wobble = field(default_factory=Wobble)
    flicker: Wobble = field(default_factory=Wobble)
    gain: float = 1.0
    noise: float = 0.0
    blur: float = 0.0
    bars: tuple[int, int] = (0, 0)  # rows above and below, columns left and right: a letterbox
    stalls: float = 0.0  # how often the camera delivers the last picture again
    delay: float = 0.0  # seconds from a picture to the end of its micro-turn

    @classmethod
    def random(cls, rng: random.Random) -> Conditions:
        shaky = rng.choice((0.0, 0.0, 0.4, 1.0))
        bars = rng.choice(((0, 0), (0, 0), (0, 0), (10, 0), (17, 0), (0, 10), (0, 17)))
        return cls(
            drift_x=Wobble.random(rng, 0.05 * shaky),
            drift_y=Wobble.random(rng, 0.04 * shaky),
            roll=Wobble.random(rng, 0.06 * shaky),
            zoom=Wobble.random(rng, 0.05 * shaky),
            flicker=Wobble.random(rng, rng.choice((0.0, 0.0, 0.05, 0.15))),
            gain=rng.uniform(0.65, 1.2),
            noise=rng.choice((0.0, 2.0, 5.0, 9.0)),
            blur=rng.choice((0.0, 0.0, 0.6, 1.0)),
            bars=bars,
            stalls=rng.choice((0.0, 0.0, 0.03)),
            delay=rng.uniform(0.0, 0.1),
        )


@dataclass(frozen=True, slots=True)
class Pole:
    """Something upright that stands, or passes, in front of everything."""

    x: float
    width: float
    speed: float
    colour: Colour

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        x = (self.x + self.speed * time + 0.3) % 1.6 - 0.3
        corners = np.array([(x, -0.5), (x + self.width, -0.5), (x + self.width, 1.5), (x, 1.5)])
        canvas.polygon(view, corners, self.colour)


def frame_time(turn: int, delay: float = 0.0) -> float:
    """Session second that the frame of a micro-turn shows: the end of its slice, less the camera's delay."""
    return (turn + 1) * MICRO_TURN_S - delay


def film(
    actors: list[Actor], turns: int, conditions: Conditions, rng: random.Random, background: np.ndarray | None = None
) -> np.ndarray:
    """Frames of a scene, uint8 (turns, 80, 80, 3). background: uint8 (240, 240, 3), a random one if None."""
    if background is None:
        background = backdrop(rng)
    noise = np.random.default_rng(rng.getrandbits(32))
    frames = np.empty((turns, FRAME_SIDE, FRAME_SIDE, 3), np.uint8)
    for turn in range(turns):
        if turn and rng.random() < conditions.stalls:
            frames[turn] = frames[turn - 1]
            continue
        time = frame_time(turn, conditions.delay + rng.uniform(0, 0.03))
        frames[turn] = _expose(_shoot(actors, background, conditions, time), conditions, time, noise)
    return frames


def _shoot(actors: list[Actor], background: np.ndarray, conditions: Conditions, time: float) -> np.ndarray:
    """The scene at `time`, uint8 (160, 160, 3)."""
    # Between bars the camera is wide or tall: all of the world fits in, and more beside it.
    fit = 1 - 2 * max(conditions.bars) / FRAME_SIDE
    turn, scale = conditions.roll.at(time), SIDE * fit * (1 + conditions.zoom.at(time))
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    centre = np.array([SIDE * (0.5 + conditions.drift_x.at(time)), SIDE * (0.5 + conditions.drift_y.at(time))])
    turned = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([turned, centre - turned @ (0.5, 0.5)])
    # The backdrop is one and a half pictures wide and moves with the world.
    behind = matrix.copy()
    behind[:, :2] *= 1.5 / SIZE
    behind[:, 2] += turned @ (-0.25, -0.25)
    canvas = Canvas(cv2.warpAffine(background, behind, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT))
    view = View(matrix, scale)
    for actor in actors:
        actor.draw(canvas, view, time)
    return canvas.pixels


def _expose(picture: np.ndarray, conditions: Conditions, time: float, noise: np.random.Generator) -> np.ndarray:
    """What the sensor makes of it: uint8 (80, 80, 3)."""
    rows, columns = conditions.bars
    if conditions.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), conditions.blur)
    picture = picture[2 * rows : SIDE - 2 * rows, 2 * columns : SIDE - 2 * columns]
    size = (FRAME_SIDE - 2 * columns, FRAME_SIDE - 2 * rows)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small *= conditions.gain * (1 + conditions.flicker.at(time))
    if conditions.noise:
        small += noise.standard_normal(small.shape, np.float32) * conditions.noise
    frame = np.zeros((FRAME_SIDE, FRAME_SIDE, 3), np.uint8)
    frame[rows : FRAME_SIDE - rows, columns : FRAME_SIDE - columns] = np.clip(small, 0, 255)
    return frame
