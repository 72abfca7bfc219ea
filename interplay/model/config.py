"""The shape of an interaction model: a handful of numbers, saved inside every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass

DECISIONS = ("listen", "speak")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of the transformer. `window`: how many micro-turns attention reaches back (bounded context)."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    feedforward: int = 672
    positions: int = 2  # per micro-turn
    frame_width: int = 64  # width of one 20 ms frame's bag of embeddings
    window: int = 200
    rope_base: float = 20_000.0

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)
