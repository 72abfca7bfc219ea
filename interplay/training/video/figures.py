"""Stick figures: a body, a pose, and the movements that people ask to have counted."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import numpy as np

from interplay.training.video.film import Canvas, Colour, View, Wobble
from interplay.training.video.rhythm import NOTHING, Rhythm, Stroke
from interplay.training.video.sprites import any_colour

MOVEMENTS = ("jacks", "jumps", "squats", "raises", "waves")


@dataclass(frozen=True, slots=True)
class Pose:
    """Angles in degrees from hanging straight down, outwards positive; bends are relative to the limb above.

    Arms and legs are (left, right), as seen. rise: of the whole body, world units. lean: of the torso, degrees.
    """

    arms: tuple[float, float] = (10.0, 10.0)
    elbows: tuple[float, float] = (5.0, 5.0)
    legs: tuple[float, float] = (7.0, 7.0)
    knees: tuple[float, float] = (0.0, 0.0)
    rise: float = 0.0
    lean: float = 0.0


def moved(movement: str, rest: Pose, out: float, phase: float, active: float, side: int) -> Pose:
    """The pose `out` of the way (0..1) into a movement. active: 0..1, how much of it is under way at all; side: which
    arm, 0 or 1, or 2 for both."""
    arms, elbows = list(rest.arms), list(rest.elbows)
    if movement == "jacks":
        spread = 7 + 24 * out
        return replace(
            rest, arms=(10 + 145 * out, 10 + 145 * out), legs=(spread, spread), rise=0.05 * math.sin(math.pi * out)
        )
    if movement == "jumps":
        crouch = max(0.0, math.sin(2 * math.pi * min(phase, 0.25) * 2)) * (1 - out)
        return replace(rest, rise=0.16 * out - 0.03 * crouch, arms=(10 + 50 * out, 10 + 50 * out))
    if movement == "squats":
        bend = 62 * out
        return replace(rest, legs=(7 + bend, 7 + bend), knees=(-1.9 * bend, -1.9 * bend), arms=(10 + 70 * out,) * 2)
    if movement == "raises":
        for arm in range(2):
            if side in (arm, 2):
                arms[arm] = 10 + 135 * out
        return replace(rest, arms=(arms[0], arms[1]))
    if movement == "waves":
        arm = side % 2
        arms[arm] = 10 + active * 105
        elbows[arm] = active * (60 + 55 * math.cos(2 * math.pi * phase))
        return replace(rest, arms=(arms[0], arms[1]), elbows=(elbows[0], elbows[1]))
    raise ValueError(f"no such movement: {movement}")


@dataclass(frozen=True, slots=True)
class Body:
    """What a figure looks like. Lengths are shares of its height; width of the limbs too. yaw: 1 seen from the front,
    less when turned aside. bodice: how wide the torso is drawn, 0 for a line."""

    height: float
    head: float
    torso: float
    arm: float
    shoulders: float
    limb: float
    bodice: float
    yaw: float
    skin: Colour
    shirt: Colour
    trousers: Colour
    edge: Colour | None

    @classmethod
    def random(cls, rng: random.Random, *, held_out: bool = False, near: float = 1.0) -> Body:
        """near: 1 fills most of the picture. Held-out bodies have proportions, and a build, that training never has."""

        # Proportions: the middle of each range belongs to the held-out bodies.
        def between(low: float, high: float) -> float:
            third = (high - low) / 3
            if held_out:
                return rng.uniform(low + third, high - third)
            return rng.choice((rng.uniform(low, low + third), rng.uniform(high - third, high)))

        skin = rng.choice(((236, 188, 150), (198, 134, 66), (141, 85, 36), (255, 219, 172), (90, 56, 37)))
        one = any_colour(rng)
        line_figure = rng.random() < (0.25 if held_out else 0.35)
        colours = (one, one, one) if line_figure else (skin, any_colour(rng), any_colour(rng))
        edge = rng.choice((None, (15, 15, 15), (245, 245, 245)))
        return cls(
            height=rng.uniform(0.62, 0.82) * near,
            head=between(0.065, 0.095),
            torso=between(0.28, 0.36),
            arm=between(0.36, 0.46),
            shoulders=between(0.07, 0.12),
            limb=between(0.035, 0.085),
            bodice=0.0 if line_figure else between(0.12, 0.22),
            yaw=between(0.75, 1.0),
            skin=colours[0],
            shirt=colours[1],
            trousers=colours[2],
            edge=edge,
        )


@dataclass(frozen=True, slots=True)
class Doing:
    """One movement of a figure: when and how."""

    movement: str
    rhythm: Rhythm
    stroke: Stroke
    reach: float = 1.0  # of the full amplitude
    side: int = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A body at a place (its feet, world units) that does one thing after the other."""

    body: Body
    feet: tuple[float, float]
    doings: tuple[Doing, ...] = ()
    sway: Wobble = field(default_factory=Wobble)
    rest: Pose = field(default_factory=Pose)

    def pose(self, time: float) -> Pose:
        pose = self.rest
        for doing in self.doings:
            active = doing.rhythm.activity(time)
            if active > 0:
                phase = doing.rhythm.phase(time)
                out = doing.stroke.excursion(phase) * doing.reach
                pose = moved(doing.movement, pose, out, phase, active, doing.side)
        return replace(pose, lean=pose.lean + self.sway.at(time))

    def draw(self, canvas: Canvas, view: View, time: float) -> None:
        body, pose = self.body, self.pose(time)
        joints = skeleton(body, pose, self.feet)
        width = body.limb * body.height
        parts: list[tuple[np.ndarray, Colour]] = [
            (joints["left leg"], body.trousers),
            (joints["right leg"], body.trousers),
            (joints["torso"], body.shirt),
            (joints["left arm"], body.shirt),
            (joints["right arm"], body.shirt),
        ]
        head = joints["head"][0]
        radius = body.head * body.height
        if body.edge is not None:
            for line, _ in parts:
                canvas.stroke(view, line, width + 0.022, body.edge)
            canvas.disc(view, (head[0], head[1]), radius + 0.011, body.edge)
        for i, (line, colour) in enumerate(parts):
            if i == 2 and body.bodice:
                canvas.polygon(view, _bodice(line, body), colour)
            canvas.stroke(view, line, width, colour)
        if body.bodice:
            for hand in (joints["left arm"][2], joints["right arm"][2]):
                canvas.disc(view, (hand[0], hand[1]), 0.65 * width, body.skin)
        canvas.disc(view, (head[0], head[1]), radius, body.skin)


def skeleton(body: Body, pose: Pose, feet: tuple[float, float]) -> dict[str, np.ndarray]:
    """Joints in world units, y down: arms and legs as three points each, torso as two, the middle of the head."""
    h = body.height
    leg = h * (1 - body.torso - 2.2 * body.head) / 2  # thigh and shin are alike
    arm = h * body.arm / 2

    def limb(start: np.ndarray, outwards: int, first: float, bend: float, length: float) -> np.ndarray:
        a, b = math.radians(first), math.radians(first + bend)
        middle = start + np.array([outwards * math.sin(a) * body.yaw, math.cos(a)]) * length
        return np.array([start, middle, middle + np.array([outwards * math.sin(b) * body.yaw, math.cos(b)]) * length])

    reach = max(
        math.cos(math.radians(a)) + math.cos(math.radians(a + k)) for a, k in zip(pose.legs, pose.knees, strict=True)
    )
    hip = np.array([feet[0], feet[1] - pose.rise * h - leg * reach])
    lean = math.radians(pose.lean)
    neck = hip + np.array([math.sin(lean), -math.cos(lean)]) * body.torso * h
    half = np.array([body.shoulders * h * body.yaw, 0.0])
    lower = half * 0.6
    return {
        "torso": np.array([hip, neck]),
        "left arm": limb(neck - half + (0, 0.03 * h), -1, pose.arms[0], pose.elbows[0], arm),
        "right arm": limb(neck + half + (0, 0.03 * h), 1, pose.arms[1], pose.elbows[1], arm),
        "left leg": limb(hip - lower, -1, pose.legs[0], pose.knees[0], leg),
        "right leg": limb(hip + lower, 1, pose.legs[1], pose.knees[1], leg),
        "head": (neck + np.array([math.sin(lean), -math.cos(lean)]) * 1.15 * body.head * h)[None],
    }


def _bodice(torso: np.ndarray, body: Body) -> np.ndarray:
    hip, neck = torso
    half = np.array([body.bodice * body.height * body.yaw, 0.0])
    return np.array([neck - 0.6 * half, neck + 0.6 * half, hip + 0.4 * half, hip - 0.4 * half])


def somebody(
    rng: random.Random, doings: tuple[Doing, ...] = (), *, held_out: bool = False, at: float | None = None,
    near: float = 1.0,
) -> Figure:  # fmt: skip
    """A figure standing somewhere around the middle."""
    body = Body.random(rng, held_out=held_out, near=near)
    x = rng.uniform(0.38, 0.62) if at is None else at
    floor = 0.5 + body.height / 2 + rng.uniform(0.0, 0.06)
    return Figure(body, (x, floor), doings, Wobble.random(rng, rng.choice((0.0, 1.0, 2.5))))


def bystander(rng: random.Random, movement: str, rhythm: Rhythm = NOTHING) -> Figure:
    """A smaller figure at the side that does something of its own."""
    doing = Doing(movement, rhythm, Stroke.random(rng), side=rng.randrange(3))
    return somebody(rng, (doing,), at=rng.choice((0.12, 0.88)), near=rng.uniform(0.4, 0.6))
