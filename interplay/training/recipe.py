"""A training recipe: the TOML files in runs/."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

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
    seed = raw.get("seed", 1)
    if type(seed) is not int:
        raise BadInput(f"{path}: seed is a whole number, not {seed!r}")
    recipe = Recipe(
        str(raw.get("name", path.stem)),
        seed,
        _section(path, "model", ModelConfig, raw.get("model", {})),
        _section(path, "train", TrainSettings, raw.get("train", {})),
        _section(path, "data", DataSettings, raw.get("data", {})),
    )
    if recipe.data.scenes not in CURRICULA:
        raise BadInput(f"{path}: [data] scenes is one of {', '.join(CURRICULA)}, not {recipe.data.scenes!r}")
    _section(path, "data.mix", Mix, dict(recipe.data.mix))
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


_KINDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list", dict: "a table"
}  # fmt: skip


def _section(path: Path, name: str, kind: type, values: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        raise BadInput(f"{path}: [{name}] has no {', '.join(sorted(unknown))}; it takes {', '.join(hints)}")
    checked = {key: _checked(f"{path}: [{name}] {key}", hints[key], value) for key, value in values.items()}
    try:
        return kind(**checked)
    except TypeError as error:
        raise BadInput(f"{path}: [{name}] is incomplete ({error})") from error


def _checked(where: str, hint: Any, value: Any) -> Any:
    """The value as its field has it: lists become tuples, whole numbers stand for others too. Raises BadInput."""
    kind = get_origin(hint) or hint
    wanted = dict if kind is Mapping else kind
    found = tuple if isinstance(value, list) else type(value)
    if found is not wanted and (found, wanted) != (int, float):
        raise BadInput(f"{where} is {_KINDS[wanted]}, not {value!r}")
    if wanted is not tuple:
        return value
    each = get_args(hint)
    if each[-1] is Ellipsis:
        each = each[:1] * len(value)
    if len(each) != len(value):
        raise BadInput(f"{where} has {len(each)} entries a row, not {value!r}")
    return tuple(_checked(where, part, entry) for part, entry in zip(each, value, strict=True))
