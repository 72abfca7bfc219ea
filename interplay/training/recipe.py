"""A training recipe: the TOML files in runs/."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from interplay.core.types import BadInput
from interplay.model.config import ModelConfig
from interplay.training.scenes import Mix


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How long and how fast. See runs/nano.toml for what each number means."""

    steps: int
    lr: float = 0.002
    warmup: int = 30
    decay_from: float = 0.5
    speak_weight: float = 4.0
    word_weight: float = 1.5
    seen_weight: float = 0.3
    time_weight: float = 0.3
    feedback_noise: float = 0.04
    feedback_drop: float = 0.6
    evaluate_every: int = 200
    workers: int = 1
    long_after: int = 500
    lengths: tuple[tuple[int, int, float], ...] = ((100, 16, 1.0),)
    compile: bool = False
    takes: int = 1
    near_from: float = 1.0

    def dialled(self, dial: float) -> TrainSettings:
        """The same schedule over `dial` times as many steps."""
        steps, long_after = max(1, round(self.steps * dial)), round(self.long_after * dial)
        return replace(self, steps=steps, long_after=long_after)


@dataclass(frozen=True, slots=True)
class DataSettings:
    """What enters the vocabulary, which voices stay out, and what scenes are made of.

    scenes: `first` (reminders, cues, repeating, chatter in a plain world) or `everything` (the whole curriculum);
    mix: single dials of it. video: share of batches whose scenes have pictures. tests: held-out scenes per kind that
    every evaluation runs.
    """

    min_count: int = 3
    held_out: tuple[str, ...] = ()
    scenes: str = "first"
    mix: Mapping[str, float] = field(default_factory=dict)
    video: float = 0.0
    tests: int = 16


CURRICULA = {"first": Mix, "everything": Mix.everything}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run."""

    name: str
    seed: int
    model: ModelConfig
    train: TrainSettings
    data: DataSettings

    def mix(self) -> Mix:
        """The dials that scenes are drawn with."""
        return CURRICULA[self.data.scenes](**self.data.mix)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises BadInput naming the line or the key that is wrong."""
    raw = _read(path)
    train = dict(raw.get("train", {}))
    if "lengths" in train:
        train["lengths"] = tuple(tuple(row) for row in train["lengths"])
    data = dict(raw.get("data", {}))
    data["held_out"] = tuple(data.get("held_out", ()))
    recipe = Recipe(
        str(raw.get("name", path.stem)),
        int(raw.get("seed", 1)),
        _section(path, "model", ModelConfig, raw.get("model", {})),
        _section(path, "train", TrainSettings, train),
        _section(path, "data", DataSettings, data),
    )
    try:
        recipe.mix()
    except KeyError:
        raise BadInput(f"{path}: [data] scenes is one of {', '.join(CURRICULA)}, not {recipe.data.scenes!r}") from None
    except TypeError as error:
        raise BadInput(f"{path}: [data] mix: {error}") from None
    if recipe.data.video and not recipe.model.glances:
        raise BadInput(f"{path}: [data] video needs a model with eyes: set [model] glances")
    return recipe


def _read(path: Path, beneath: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe's keys; where it names a `base`, a recipe beside it, that one's with its own on top."""
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(f"no recipe at {path}; recipes live in runs/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path}: not a recipe ({error})") from error
    for name in ("model", "train", "data"):
        if not isinstance(raw.get(name, {}), dict):
            raise BadInput(f"{path}: {name} is a table: write [{name}] and its keys below")
    if "base" not in raw:
        return raw
    base = path.parent / str(raw.pop("base"))
    if base.resolve() in (path.resolve(), *beneath):
        raise BadInput(f"{path}: a recipe cannot be its own base")
    below = _read(base, (*beneath, path.resolve()))
    tables = {name: {**below[name], **raw[name]} for name in below.keys() & raw.keys() if isinstance(raw[name], dict)}
    return below | raw | tables


def _section(path: Path, name: str, kind: type, values: dict[str, Any]) -> Any:
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        known = ", ".join(f.name for f in fields(kind))
        raise BadInput(f"{path}: [{name}] has no {', '.join(sorted(unknown))}; it takes {known}")
    try:
        return kind(**values)
    except TypeError as error:
        raise BadInput(f"{path}: [{name}] is incomplete ({error})") from error
