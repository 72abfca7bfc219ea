"""What the model is asked beside its work, in training only: how late it is, and what is to be seen.

Few words depend on the time that has passed or on a picture, so a model that learns from words alone learns neither for
a long time. A witness asks in every micro-turn, and is thrown away afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.config import ModelConfig
from interplay.model.transformer import Outputs
from interplay.training.dataset import Batch
from interplay.training.recipe import TrainSettings

UNITS = 61  # whole seconds, or words, that are told apart; the last one stands for all beyond
WEIGHTS = (1.0, 1.0, 4.0)  # few micro-turns lie within a phrase


class Timekeeper(nn.Module):
    """Reads the running stopwatch, the time left to the next reminder, and how many words are left of the phrase that
    is being said, off the model's state."""

    weights: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, len(WEIGHTS) * UNITS)
        self.register_buffer("weights", torch.tensor(WEIGHTS), persistent=False)

    def forward(self, state: Tensor, times: Tensor) -> Tensor:
        """state: float (batch, turns, width). times: float32 (batch, turns, 3), NaN where there is nothing to read; see
        Scene. Returns the loss, a scalar."""
        known = ~times.isnan() * self.weights
        units = times.nan_to_num().round().clamp(0, UNITS - 1).long()
        guess = self.read(state).unflatten(-1, (len(WEIGHTS), UNITS)).float()
        return (F.cross_entropy(guess.flatten(0, 2), units.flatten(), reduction="none") * known.flatten()).mean()


class Witness(nn.Module):
    """Everything that is asked. video: whether there is anything to see."""

    def __init__(self, config: ModelConfig, *, video: bool) -> None:
        super().__init__()
        self.seen: nn.Module | None = None
        if video:
            from interplay.training.video.seen import Sight  # needs an image library

            self.seen = Sight(config.width, config.glances)
        self.time = Timekeeper(config.width)

    def forward(self, out: Outputs, batch: Batch, settings: TrainSettings) -> Tensor:
        """The weighted loss of all answers, a scalar."""
        loss = torch.zeros(())
        if batch.times is not None:
            loss = settings.time_weight * self.time(out.state, batch.times)
        if self.seen is not None and batch.seen is not None:
            loss = loss + settings.seen_weight * self.seen(out.glances, out.state, batch.seen)
        return loss
