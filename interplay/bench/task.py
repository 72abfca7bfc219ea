"""What a bench task is given and what it gives back. A task is one function: `run(setup) -> Result`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from interplay.core.types import BadInput
from interplay.foreground.base import Foreground

PHRASINGS = ("known", "held-out")


@dataclass
class Setup:
    """The command line of one task.

    n: items. voices: `held-out`, `training`, `none` or a data folder: who speaks the items of the first column. data:
    folders of recordings, each kind a column of its own. held_out: the speakers of those folders that count; None means
    those that the checkpoint says it never met. phrasings: `known`, requests worded as in training, or `held-out`.
    jobs: processes. options: `--option NAME=VALUE` of a single task. advance(done=1, total=N): call it per finished
    item; `total` once it is known.
    """

    foreground: str = "native"
    checkpoint: Path | None = None
    n: int = 100
    seed: int = 0
    voices: str = "held-out"
    data: tuple[Path, ...] = ()
    held_out: tuple[str, ...] | None = None
    phrasings: str = "known"
    jobs: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    advance: Callable[..., None] = lambda done=1, total=None: None

    @cached_property
    def mind(self) -> Foreground:
        """The foreground under test, loaded when a task first asks for it. Raises BadInput or Missing."""
        from interplay.gateway.foreground import load_mind

        return load_mind(self.foreground, checkpoint=self.checkpoint, agent="bench")

    def number(self, name: str, default: float, *, least: float = 0.0) -> float:
        """The option `name` as a number of at least `least`. Raises BadInput."""
        text = self.options.get(name, str(default))
        try:
            value = float(text)
        except ValueError as error:
            raise BadInput(f"--option {name}={text}: a number is needed") from error
        if not least <= value < float("inf"):
            raise BadInput(f"--option {name}={text}: at least {least:g}")
        return value


@dataclass(slots=True)
class Result:
    """One task. n: items per column. metrics: name -> value. interval: name -> 95 % interval of that metric.

    categories: category -> its own figures. notes: what was held out, what could not be asked, and the like. rows: one
    mapping per item, for `--report`. foreground: whose figures these are, "" where no foreground took part.
    """

    n: int
    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    categories: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


Task = Callable[[Setup], Result]
