"""Coloured shapes, and the things made of them that bounce, swing and turn."""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass

import numpy as np

from interplay.training.video.film import Canvas, View
from interplay.training.video.rhythm import Rhythm

# Hue of each named colour in degrees (low, high), then saturation and value. Where colours meet there is room between.
HUES = {
    "red": (-8, 8, 0.75, 0.7), "orange": (22, 34, 0.85, 0.85), "yellow": (50, 62, 0.7, 0.8),
    "green": (95, 145, 0.6, 0.45), "blue": (205, 238, 0.65, 0.55), "purple": (266, 288, 0.5, 0.45),
    "pink": (318, 338, 0.35, 0.85),
}  # fmt: skip
COLOURS = tuple(HUES)
SHAPES = ("circle", "square", "triangle", "star", "cross")


def shade(rng: random.Random, colour: str, *, held_out: bool = False) -> tuple[int, int, int]:
    """One RGB of a named colour. The middle fifth of each hue is never seen in training."""
    low, high, saturation, value = HUES[colour]
    part = rng.uniform(0.4, 0.6) if held_out else rng.choice((rng.uniform(0, 0.4), rng.uniform(0.6, 1)))
    hue = (low + (high - low) * part) / 360 % 1
    rgb = colorsys.hsv_to_rgb(hue, rng.uniform(saturation, 1.0), rng.uniform(value, 1.0))
    return _bytes(rgb)


def any_colour(rng: random.Random) -> tuple[int, int, int]:
    """Any colour at all."""
    return _bytes(colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.7, rng.uniform(0.08, 1)))


def _bytes(rgb: tuple[float, float, float]) -> tuple[int, int, int]:
    return round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)


def outline(shape: str) -> np.ndarray:
    """The corners of a shape of about unit radius around the origin, float (n, 2)."""
    if shape == "circle":
        return _ring(24, [1.0])
    if shape == "square":
        return _ring(4, [1.15], math.pi / 4)
    if shape == "triangle":
        return _ring(3, [1.2], -math.pi / 2)
    if shape == "star":
        return _ring(10, [1.25, 0.5], -math.pi / 2)
    if shape == "cross":
        a, b = 0.38, 1.1
        return np.array(
            [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
        )
    raise ValueError(f"no such shape: {shape}")


def _ring(corners: int, radii: list[float], turn: float = 0.0) -> np.ndarray:
    angles = turn + 2 * math.pi * np.arange(corners) / corners
    radius = np.resize(radii, corners)
    return np.stack([np.cos(angles) * radius, np.sin(angles) * radius], 1)


@dataclass(frozen=True, slots=True)
class Stay:
    """A shape that is there from `enter` to `leave` (seconds) and comes and goes in a way: pop, slide, fade or grow.

    The way takes `ramp` seconds, centred on `enter` and `leave`: half of the shape is there at these times.
    side: where it slides in from, in radians. at: its place, world units. wander: how far it moves meanwhile.
    """

    shape: str
    rgb: tuple[int, int, int]
    at: tuple[float, float]
    size: float
    enter: float
    leave: float
    way: str = "pop"
    ramp: float = 0.4
    side: float = 0.0
    wander: float = 0.0
    spin: float = 0.0

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        if self.way == "pop":
            there = 1.0 if self.enter <= time < self.leave else 0.0
        else:
            rise = (time - self.enter) / self.ramp + 0.5
            there = min(1.0, max(0.0, min(rise, (self.leave - time) / self.ramp + 0.5)))
        if there <= 0:
            return
        x = self.at[0] + self.wander * math.sin(0.9 * time + self.side)
        y = self.at[1] + self.wander * math.cos(0.7 * time + 2 * self.side)
        size = self.size
        if self.way == "grow":
            size *= math.sqrt(there)
        if self.way == "slide":
            x = _slide(there, -size if math.cos(self.side) < 0 else 1 + size, x, size)
        corners = outline(self.shape) * size
        turn = 0.25 * math.sin(1.3 * time) * self.spin
        rotated = corners @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        canvas.polygon(view, rotated + np.array([x, y]), self.rgb, there if self.way == "fade" else 1.0)


def _slide(there: float, outside: float, place: float, size: float) -> float:
    """Where it is on its way in, such that half of it is in the picture half-way in time."""
    edge = size / max(abs(place - outside), 1e-6)
    share = there * 2 * edge if there < 0.5 else edge + (there - 0.5) * 2 * (1 - edge)
    return outside + (place - outside) * share


@dataclass(frozen=True, slots=True)
class Ball:
    """Hops from the floor to the floor: one repetition is one bounce, complete when it touches down."""

    rgb: tuple[int, int, int]
    x: float
    floor: float
    height: float
    radius: float
    rhythm: Rhythm

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        u = self.rhythm.phase(time)
        y = self.floor - self.radius - self.height * 4 * u * (1 - u)
        floor = np.array([(x, self.floor + y) for x, y in ((-1, 0), (2, 0), (2, 0.012), (-1, 0.012))])
        canvas.polygon(view, floor, (70, 66, 60))
        canvas.disc(view, (self.x, y), self.radius, self.rgb)
        canvas.disc(view, (self.x - 0.3 * self.radius, y - 0.3 * self.radius), 0.25 * self.radius, (240, 240, 240))


@dataclass(frozen=True, slots=True)
class Pendulum:
    """Swings from one side over and back: complete when it is back; it is held there between repetitions."""

    rgb: tuple[int, int, int]
    pivot: tuple[float, float]
    length: float
    radius: float
    angle: float  # radians to the side, its sign says which
    rhythm: Rhythm

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        angle = self.angle * math.cos(2 * math.pi * self.rhythm.phase(time))
        end = (self.pivot[0] + self.length * math.sin(angle), self.pivot[1] + self.length * math.cos(angle))
        canvas.stroke(view, np.array([self.pivot, end]), 0.014, (60, 60, 66))
        canvas.disc(view, end, self.radius, self.rgb)


@dataclass(frozen=True, slots=True)
class Turning:
    """A square with a mark at one corner that turns: complete when the mark is up again."""

    rgb: tuple[int, int, int]
    mark: tuple[int, int, int]
    at: tuple[float, float]
    size: float
    clockwise: bool
    rhythm: Rhythm

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        turn = 2 * math.pi * self.rhythm.phase(time) * (1 if self.clockwise else -1)
        matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        corners = _ring(4, [1.15], -math.pi / 2) * self.size
        canvas.polygon(view, corners @ matrix + self.at, self.rgb)
        point = np.array([0, -0.72 * self.size]) @ matrix + self.at
        canvas.disc(view, (float(point[0]), float(point[1])), 0.3 * self.size, self.mark)


@dataclass(frozen=True, slots=True)
class Drifter:
    """Something that moves through the picture and means nothing."""

    shape: str
    rgb: tuple[int, int, int]
    size: float
    start: tuple[float, float]
    speed: tuple[float, float]
    sway: float
    pace: float

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        x = (self.start[0] + self.speed[0] * time + 0.3) % 1.6 - 0.3
        y = (self.start[1] + self.speed[1] * time + self.sway * math.sin(self.pace * time) + 0.3) % 1.6 - 0.3
        canvas.polygon(view, outline(self.shape) * self.size + (x, y), self.rgb)


def drifter(rng: random.Random) -> Drifter:
    """One that is small enough not to hide what matters."""
    return Drifter(
        rng.choice(SHAPES),
        any_colour(rng),
        rng.uniform(0.02, 0.06),
        (rng.random(), rng.random()),
        (rng.uniform(-0.15, 0.15), rng.uniform(-0.08, 0.08)),
        rng.choice((0.0, 0.08)),
        rng.uniform(0.8, 4.0),
    )
