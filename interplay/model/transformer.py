"""The interaction model: every micro-turn is the same few positions and exactly one forward pass.

Input of a micro-turn: two positions of 100 ms of dMel each (and, in a session with video, the positions of one frame);
the words that the previous micro-turn heard and put out, a word of a text event, marks and the session's proactivity
are added to the first of them. Output, read in parallel from the last position: the decision, the word heard, the word
to put out. Positions count time: a rotary angle is a fixed function of the micro-turn index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interplay.model.blocks import Block, Pinned, clock, prefix_rotary, rotary, rotate, window_mask
from interplay.model.config import DECISIONS, MARKS, ModelConfig
from interplay.model.dmel import CHANNELS, FRAMES, LEVELS
from interplay.model.pointer import Copy, Recall


class Outputs(NamedTuple):
    """Of micro-turns: logits of decision (..., 7) and heard (..., vocabulary), log-probabilities of the output word.

    Of whole scenes also what they were read from, for teachers: state (..., width), of each last position, normalised;
    glances (..., positions, width), what the eyes gave, None without video.
    """

    decision: Tensor
    heard: Tensor
    said: Tensor
    state: Tensor | None = None
    glances: Tensor | None = None


@dataclass(slots=True)
class Inputs:
    """Whole scenes (training). Leading axes (batch, turns) unless said; None where no scene of the batch has any.

    bins: uint8 (..., 10, 80). heard, said: int64, word ids of the *previous* micro-turn. transcript: int64, the word
    heard *in* each micro-turn, which later ones may copy. event: int64, a word of a text event. marks: bool (..., 4),
    see MARKS. prefix: int64 (batch, 48), words, 0 after the last. proactivity: float (batch,), 0 .. 1.
    frames: uint8 (..., 80, 80, 3). start: micro-turns of the session before these, for the clock.
    """

    bins: Tensor
    heard: Tensor
    said: Tensor
    transcript: Tensor
    event: Tensor | None = None
    marks: Tensor | None = None
    prefix: Tensor | None = None
    proactivity: Tensor | None = None
    frames: Tensor | None = None
    start: int = 0


class BagOfEmbeddings(nn.Module):
    """A frame of dMel as the sum of one learned vector per (channel, level), then a light merge of five frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frames = FRAMES // config.positions
        self.table = nn.Parameter(torch.randn(CHANNELS * LEVELS, config.frame_width) * 0.05)
        self.wide = nn.Linear(self.frames * config.frame_width, 2 * config.width)
        self.narrow = nn.Linear(2 * config.width, config.width)

    def forward(self, bins: Tensor) -> Tensor:
        """bins: uint8 (..., turns, 10, 80) -> float (..., turns x positions, width)."""
        if bins.device.type == "cpu" and self.table.requires_grad and not torch.compiler.is_compiling():
            frames = cast(Tensor, _Bag.apply(bins, self.table))
        else:  # one-hot times table is the bag as a matrix product: its backward is a product too, not a scatter
            levels = torch.arange(LEVELS, dtype=torch.uint8, device=bins.device)
            frames = (bins[..., None] == levels).to(self.table.dtype).flatten(-2) @ self.table
        merged = frames.reshape(*bins.shape[:-3], -1, self.frames * self.table.shape[1])
        return self.narrow(F.gelu(self.wide(merged)))


class _Bag(torch.autograd.Function):
    """The bag of embeddings for training on CPUs: sums of rows forward; back, products with one-hot frames, a few of
    them at a time so that they stay in the cache."""

    FRAMES = 1000

    @staticmethod
    def forward(ctx, bins: Tensor, table: Tensor) -> Tensor:
        rows = (bins.long() + torch.arange(CHANNELS) * LEVELS).flatten(0, -2)
        ctx.save_for_backward(rows, table)
        ctx.kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else table.dtype
        with torch.autocast("cpu", enabled=False):
            return F.embedding_bag(rows, table, mode="sum").view(*bins.shape[:-1], -1)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        rows, table = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2).to(ctx.kind)
        found = torch.zeros_like(table)
        hot = torch.zeros(_Bag.FRAMES, len(table), dtype=ctx.kind)
        for at in range(0, len(rows), _Bag.FRAMES):
            some = rows[at : at + _Bag.FRAMES]
            part = hot[: len(some)].scatter_(1, some, 1.0)
            found += part.t() @ gradient[at : at + _Bag.FRAMES]
            part.scatter_(1, some, 0.0)
        return None, found


class Eyes(nn.Module):
    """A frame as patches through the hMLP stem, merged to `config.glances` positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from interplay.model.patches import PATCHES, PatchStem  # only a model with eyes needs them

        self.glances = config.glances
        self.stem = PatchStem(config.width)
        self.merge = nn.Linear(PATCHES // config.glances * config.width, config.width)
        self.place = nn.Parameter(torch.zeros(config.glances, config.width))

    def forward(self, frames: Tensor, previous: Tensor) -> Tensor:
        """frames, previous (the frame before): uint8 (..., 80, 80, 3) -> float (..., glances, width)."""
        patches = self.stem(frames, previous)
        return self.merge(patches.unflatten(-2, (self.glances, -1)).flatten(-2)) + self.place


class InteractionModel(nn.Module):
    """The transformer with its input stems and output heads."""

    def __init__(self, config: ModelConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.audio = BagOfEmbeddings(config)
        # One table for words heard and said, in and out: repeating a word is then copying a direction.
        self.words = nn.Parameter(torch.randn(vocabulary_size, width) * 0.02)
        self.feed_heard = nn.Linear(width, width, bias=False)
        self.feed_said = nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(width)
        self.decision = nn.Linear(width, len(DECISIONS))
        self.heard = nn.Linear(width, width, bias=False)
        self.said = nn.Linear(width, width, bias=False)
        self.copy = Copy(config)
        self.recall = Recall(config)
        self.feed_event = nn.Linear(width, width, bias=False)
        self.feed_clock = nn.Linear(width // config.heads, width, bias=False) if config.clock else None
        self.marks = nn.Parameter(torch.zeros(len(MARKS), width))
        self.manner = nn.Parameter(torch.zeros(width))  # times (proactivity - 0.5)
        self.pinned = nn.Parameter(torch.zeros(width))  # added to every word of the prefix
        self.eyes = Eyes(config) if config.glances else None
        if self.feed_clock is not None:
            nn.init.zeros_(self.feed_clock.weight)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def _look_up(self, ids: Tensor) -> Tensor:
        """Word ids (...) -> float (..., width); `<none>` is nothing."""
        return F.embedding(ids, self.words) * (self.config.width**0.5 * (ids > 0)).unsqueeze(-1)

    def feedback(
        self,
        heard: Tensor,
        said: Tensor,
        event: Tensor | None = None,
        marks: Tensor | None = None,
        proactivity: Tensor | None = None,
        turns: Tensor | None = None,
    ) -> Tensor:
        """What words, marks, manners and the clock add to a micro-turn's first position of sound, float (..., width).

        Arguments as in `Inputs`, proactivity broadcastable to (...). turns: int64, one axis, the last of (...): which
        micro-turns of the session these are.
        """
        x = self.feed_heard(self._look_up(heard)) + self.feed_said(self._look_up(said))
        if event is not None:
            x = x + self.feed_event(self._look_up(event))
        if marks is not None:
            x = x + marks.to(x.dtype) @ self.marks
        if proactivity is not None:
            x = x + (proactivity - 0.5).unsqueeze(-1) * self.manner
        if turns is not None and self.feed_clock is not None:
            x = x + self.feed_clock(clock(turns, self.config).to(x.device))
        return x

    def embed(self, inputs: Inputs) -> Tensor:
        """Input of micro-turns as positions, float (batch, turns x positions, width)."""
        manner = None if inputs.proactivity is None else inputs.proactivity[:, None]
        turns = inputs.start + torch.arange(inputs.bins.shape[1])
        more = self.feedback(inputs.heard, inputs.said, inputs.event, inputs.marks, manner, turns).unsqueeze(2)
        x = self.audio(inputs.bins).unflatten(1, (-1, self.config.positions))
        parts = [x[:, :, :1] + more, x[:, :, 1:]]
        if inputs.frames is not None:
            assert self.eyes is not None, "this model has no eyes"
            previous = torch.cat([inputs.frames[:, :1], inputs.frames[:, :-1]], 1)
            parts.insert(0, self.eyes(inputs.frames, previous))
        return torch.cat(parts, 2).flatten(1, 2)

    def read_prefix(self, prefix: Tensor) -> tuple[list[Pinned], Tensor]:
        """Run the words set before the session, once.

        prefix: int64 (batch, 48), 0 after the last word. Returns each layer's keys and values and the final states
        (batch, 48, width), normalised.
        """
        seen = prefix > 0
        x = self.feed_event(self._look_up(prefix)) + self.pinned
        cos, sin = (t.to(x.device) for t in prefix_rotary(self.config))
        layers = []
        for block in self.blocks:
            assert isinstance(block, Block)
            x, keys, values = block(x, cos, sin, None, None)
            layers.append(Pinned(keys, values, seen))
        return layers, self.norm(x)

    def _read_prefixes(self, prefix: Tensor) -> tuple[list[Pinned], Tensor]:
        """`read_prefix` for those scenes of a batch that have one; the states of the others are zero."""
        if torch.compiler.is_compiling():  # shapes that depend on the data would be compiled again and again
            return self.read_prefix(prefix)
        rows = (prefix > 0).any(1).nonzero()[:, 0]
        if len(rows) == len(prefix):
            return self.read_prefix(prefix)
        layers, last = self.read_prefix(prefix[rows])
        whole = last.new_zeros(*prefix.shape, last.shape[-1]).index_copy(0, rows, last)
        return [layer._replace(rows=rows) for layer in layers], whole

    def forward(self, inputs: Inputs, say: Tensor | None = None) -> Outputs:
        """Whole scenes at once. Outputs are (batch, turns, ...).

        say: bool (batch, turns), the micro-turns whose output word is asked for; then `said` is (count, vocabulary),
        in their order. Few micro-turns say something, and words are the widest thing there is.
        """
        config, turns = self.config, inputs.bins.shape[1]
        glances = 0 if inputs.frames is None else config.glances
        per_turn = config.positions + glances
        x = self.embed(inputs)
        cos, sin = (t.to(x.device) for t in rotary(torch.arange(turns), config, glances))
        mask = None if turns <= config.window else window_mask(turns, per_turn, config.window).to(x.device)
        looks = x.unflatten(1, (turns, per_turn))[:, :, :glances] if glances else None
        layers, pinned = self._read_prefixes(inputs.prefix) if inputs.prefix is not None else (None, None)
        for number, block in enumerate(self.blocks):
            x, _, _ = block(x, cos, sin, mask, None if layers is None else layers[number])
        last = self.norm(x[:, per_turn - 1 :: per_turn])
        out = self._read(inputs, last, cos[per_turn - 1 :: per_turn], sin[per_turn - 1 :: per_turn], pinned, say)
        return out._replace(state=last, glances=looks)

    def _read(
        self, inputs: Inputs, last: Tensor, cos: Tensor, sin: Tensor, pinned: Tensor | None, say: Tensor | None
    ) -> Outputs:
        """Outputs from each micro-turn's last position, the transcript and the prefix's final states."""
        turns, window, table = last.shape[1], self.config.window, self.words.t()
        words = inputs.transcript if inputs.event is None else inputs.event.where(inputs.event > 0, inputs.transcript)
        index = torch.arange(turns, device=last.device)
        ago = index[:, None] - index[None]
        just = F.pad(words, (1, 0))[:, :-1, None]  # what the micro-turn before heard
        same = (just > 1) & (just == words[:, None]) & (ago > 1) & (ago < window)
        known, values = words, self.recall.value(last)
        if pinned is not None and inputs.prefix is not None:
            known = torch.cat([inputs.prefix, words], 1)
            same = torch.cat([(just > 1) & (just == inputs.prefix[:, None]), same], 2)
            values = torch.cat([self.recall.value(pinned), values], 1)
        now = self.recall(last, values, same)
        query, key = self.copy.query(now), self.copy.key(last)
        scores = rotate(query, cos, sin) @ rotate(key, cos, sin).transpose(1, 2)
        usable = ((ago > 0) & (ago < window))[None] & (words > 1)[:, None]
        if pinned is not None and inputs.prefix is not None:
            cos, sin = (t.to(last.device) for t in prefix_rotary(self.config))
            before = query @ rotate(self.copy.key(pinned), cos, sin).transpose(1, 2)
            scores = torch.cat([before, scores], 2)
            usable = torch.cat([(inputs.prefix > 1)[:, None].expand(-1, turns, -1), usable], 2)
        scores, speaking = scores / key.shape[-1] ** 0.5, now
        if say is not None:
            scene = say.nonzero()[:, 0]
            scores, usable, speaking = (x[say][:, None] for x in (scores, usable.expand_as(scores), now))
            known = known[scene]
        said = self.copy.mix(scores, usable, self.copy.gate(speaking), self.said(speaking) @ table, known)
        return Outputs(self.decision(now), self.heard(last) @ table, said if say is None else said[:, 0])


