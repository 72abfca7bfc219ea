"""One micro-turn of any set of sessions as one batch, in place on their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.engine.arithmetic import ROWS, Pile, Weights, fill, logistic, rotate, rows4, unit
from interplay.engine.state import ROLLBACK, Shape, State
from interplay.model.config import PREFIX_WORDS

NOTHING = float("-inf")


@dataclass(slots=True)
class StepInputs:
    """What goes into one micro-turn of the sessions in `rows` order.

    slots: int64 (rows,), ascending and all different; turns: int64 (rows,), each later than its row's last.
    bins: uint8 (rows, 10, 80). heard, said: int64 (rows,), what the previous micro-turn heard and put out; event: int64
    (rows,), one word of a text event or 0; marks: bool (rows, 3). frames: uint8 (rows, 80, 80, 3) or None if no session
    of the batch has a frame now; a session with video whose frame is left out runs on its sound alone.
    """

    slots: Tensor
    turns: Tensor
    bins: Tensor
    heard: Tensor
    said: Tensor
    event: Tensor
    marks: Tensor
    frames: Tensor | None = None


@dataclass(slots=True)
class StepOutputs:
    """decision: logits (rows, 7). heard: logits (rows, vocabulary). say(which): log-probabilities of the output word
    for those rows, (which, vocabulary), computed only when asked for: most micro-turns say nothing."""

    decision: Tensor
    heard: Tensor
    say: Callable[[Sequence[int]], Tensor]


class Layer(NamedTuple):
    """One layer's keys and values of all slots, seen as a step needs them. lines: (slots x heads x keys, head width),
    to write; keys (slots x heads, head width, keys) and values (slots x heads, keys, head width), to read."""

    key_lines: Tensor
    value_lines: Tensor
    keys: Tensor
    values: Tensor


class Arena:
    """What never changes between the steps of one pool of slots: where its memory lies, and tables of places."""

    def __init__(self, shape: Shape, state: State) -> None:
        self.shape, self.state, config = shape, state, shape.config
        device, per_turn = state["stamp"].device, shape.per_turn
        size = config.width // config.heads
        self.layers = []
        for number in range(config.layers):
            keys, values = state[f"keys.{number}"], state[f"values.{number}"]
            lines = keys.view(-1, size), values.view(-1, size)
            self.layers.append(Layer(*lines, keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)))
        self.slots = torch.arange(len(state["stamp"]), device=device)
        self.columns = torch.arange(shape.keys, device=device)
        self.heads = torch.arange(config.heads, device=device)[:, None] * shape.keys
        self.within = torch.arange(per_turn, device=device)
        self.blind = self.within < shape.glances
        # What the positions of a micro-turn may see of it, by their number: not what follows, nor a frame left out.
        self.own = {}
        for p in {config.positions, per_turn}:
            hidden = torch.ones(p, per_turn, dtype=torch.bool, device=device)
            hidden[:, per_turn - p :] = hidden[:, per_turn - p :].triu(1)
            self.own[p] = torch.zeros(p, per_turn, device=device).masked_fill_(hidden, NOTHING)


def step(weights: Weights, arena: Arena, inputs: StepInputs) -> StepOutputs:
    """Run one micro-turn of every session in `inputs`. The state then holds it all but the choice of words, which the
    caller makes and `commit`s; until then the micro-turn has not happened."""
    shape, rows = arena.shape, len(inputs.slots)
    glances = 0 if inputs.frames is None else shape.glances
    p = shape.config.positions + glances
    place = inputs.turns % shape.ring
    x = _embed(weights, arena, inputs, place)
    cos, sin = weights.rotary(inputs.turns, glances)
    plan = _plan(arena, inputs, place, p, cos, sin)
    size = 2 * plan.half_width
    for layer, memory in zip(weights.layers, arena.layers, strict=True):
        plain, v = weights.project(layer, x, rows)
        turned = plain * plan.cos + plain.roll(plan.half_width, -1) * plan.sin
        memory.key_lines.index_copy_(0, plan.at, turned[1].reshape(-1, size))
        memory.value_lines.index_copy_(0, plan.at, v.reshape(-1, size))
        attended = attend(plan, turned[0], plain, memory).transpose(1, 2).flatten(2)
        x = weights.finish(layer, x, fill(attended, len(x)))
    last = rows4(unit(x[:rows, -1]) * weights.final)
    return _read(weights, arena, inputs, plan, place, last, cos[:, -1], sin[:, -1])


def _embed(weights: Weights, arena: Arena, inputs: StepInputs, place: Tensor) -> Tensor:
    """Positions of the micro-turn, (at least `rows`, positions, width): filled up so that no product has few rows."""
    state, rows = arena.state, len(inputs.slots)
    proactivity = state["proactivity"][inputs.slots]
    more = weights.feedback(inputs.heard, inputs.said, inputs.event, inputs.marks, proactivity, inputs.turns)
    enough = max(rows, -(-ROWS // weights.config.positions))
    x = weights.sound(fill(inputs.bins, enough))
    x[:, 0] += fill(more, enough)
    if arena.shape.glances:
        state["glanced"][inputs.slots, place] = inputs.frames is not None
        x = _see(weights, state, inputs, x)
    return x


def _see(weights: Weights, state: State, inputs: StepInputs, x: Tensor) -> Tensor:
    """`x` with the positions of the frames in front. The frame before the first one is itself; a micro-turn without a
    frame keeps the last one for the next to compare with."""
    slots, frames = inputs.slots, inputs.frames
    before = state["last"][slots]
    previous = state["frames"][slots, before.clamp(min=0) % (ROLLBACK + 1)]
    state["frames"][slots, inputs.turns % (ROLLBACK + 1)] = previous if frames is None else frames
    if frames is None:
        return x
    seen = weights.glance(frames, torch.where((before >= 0)[:, None, None, None], previous, frames))
    return torch.cat([fill(seen, len(x)), x], 1)


@dataclass(slots=True)
class Plan:
    """What all layers of one step share.

    cos, sin: of the rotation, laid out for `x * cos + roll(x) * sin`. at: int64, lines of a layer's memory that this
    micro-turn writes. mask: additive (rows, 1, p, keys), what each position may attend to. half: float (rows, 1, 2, 1,
    keys), to which half of the ring a key belongs: 1 in [0] for the prefix and the current lap, 1 in [1] for the lap
    before. runs: see `_runs`. pinned: whether to look at the prefix, which some row has. words: int64 (rows, 48 +
    ring). stamp, used: (rows, ring), which micro-turn lies where, and whether it is in the window.
    """

    p: int
    cos: Tensor
    sin: Tensor
    half_width: int
    at: Tensor
    mask: Tensor
    half: Tensor
    runs: list[tuple[int, int, int]]
    pinned: bool
    words: Tensor
    stamp: Tensor
    used: Tensor


def _plan(arena: Arena, inputs: StepInputs, place: Tensor, p: int, cos: Tensor, sin: Tensor) -> Plan:
    plan, none = lay_out(arena, inputs.slots, inputs.turns, place, p, cos, sin, _runs(inputs.slots.tolist()))
    plan.pinned = not bool(none.all())
    return plan


def lay_out(
    arena: Arena,
    slots: Tensor,
    turns: Tensor,
    place: Tensor,
    p: int,
    cos: Tensor,
    sin: Tensor,
    runs: list[tuple[int, int, int]],
) -> tuple[Plan, Tensor]:
    """What the layers of a step of `slots` share, and bool (rows, 48), which places of the prefix hold no word. Looks
    at no value: a step of fixed shape makes its plan here too (see `fixed.py`)."""
    shape, state = arena.shape, arena.state
    per_turn = shape.per_turn
    begin = PREFIX_WORDS + place * per_turn
    lines = slots * (shape.config.heads * shape.keys) + begin + (per_turn - p)
    at = (lines[:, None, None] + arena.heads + arena.within[:p]).flatten()
    stamp, words = state["stamp"][slots], state["words"][slots]
    gone = stamp <= (turns - shape.config.window).clamp_(min=-1)[:, None]
    each = gone[:, :, None].expand(-1, -1, per_turn)
    if shape.glances:
        each = each | (~state["glanced"][slots][:, :, None] & arena.blind)
    none = words[:, :PREFIX_WORDS] == 0
    mask = torch.where(torch.cat([none, each.flatten(1)], 1), NOTHING, 0.0)[:, None].repeat(1, p, 1)
    own = (begin[:, None] + arena.within)[:, None].expand(-1, p, -1)
    mask.scatter_(2, own, arena.own[p].expand(len(slots), -1, -1))
    now = (arena.columns < (begin + per_turn)[:, None]).float()
    half = torch.stack([now, 1 - now], 1)[:, None, :, None]
    turn = torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]
    return Plan(p, *turn, cos.shape[-1], at, mask[:, None], half, runs, True, words, stamp, ~gone), none


def _runs(slots: list[int]) -> list[tuple[int, int, int]]:
    """Neighbouring slots as (first slot, first row, count): their keys are one view, nothing is copied."""
    runs: list[tuple[int, int, int]] = []
    for row, slot in enumerate(slots):
        if runs and slot == runs[-1][0] + runs[-1][2]:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((slot, row, 1))
    return runs


def attend(plan: Plan, turned: Tensor, plain: Tensor, memory: Layer) -> Tensor:
    """Attention (rows, heads, positions, head width): rotated queries meet the ring, plain ones ([0] of `plain`) the
    prefix.

    Values are summed in two parts, the current lap of the ring and the lap before, added at the end: a whole scene can
    then be computed lap by lap and sum the same numbers in the same order.
    """
    rows, heads, p, size = turned.shape
    again = -(-ROWS // (2 * p))  # times that a product of 2 x p rows must be repeated to have enough
    if plan.pinned:
        queries = torch.stack([turned, plain[0]], 2).view(rows * heads, 2 * p, size)
        queries = queries if again == 1 else queries.repeat(1, again, 1)
    else:
        queries = turned.repeat(1, 1, -(-ROWS // p), 1).view(rows * heads, -1, size)
    out = []
    for slot, row, count in plan.runs:
        queried, mask, half = queries, plan.mask, plan.half
        if count < rows:
            queried = queries[row * heads : (row + count) * heads]
            mask, half = (t[row : row + count] for t in (mask, half))
        lines = slice(slot * heads, (slot + count) * heads)
        both = torch.bmm(queried, memory.keys[lines])
        scores = both[:, :p]
        if plan.pinned:
            scores = torch.cat([both[:, p : 2 * p, :PREFIX_WORDS], scores[:, :, PREFIX_WORDS:]], 2)
        share = (scores.unflatten(0, (count, heads)) + mask).softmax(-1)
        halves = (share.unsqueeze(2) * half).view(count * heads, 2 * p, -1)
        sums = torch.bmm(halves if again == 1 else halves.repeat(1, again, 1), memory.values[lines])
        out.append(sums[:, :p] + sums[:, p : 2 * p])
    return (out[0] if len(out) == 1 else torch.cat(out)).view(rows, heads, p, size)


def _read(
    weights: Weights, arena: Arena, inputs: StepInputs, plan: Plan, place: Tensor, last: Tensor, cos: Tensor,
    sin: Tensor,
) -> StepOutputs:  # fmt: skip
    """Outputs from the last positions (at least 4 rows, width), the words of the window and the prefix."""
    model, shape, state = weights.model, arena.shape, arena.state
    slots, rows, words, used = inputs.slots, len(inputs.slots), plan.words, plan.used
    size = cos.shape[-1] * 2
    leave = F.linear(last, weights.leave, weights.leave_bias)[:rows]
    state["copy_keys"][slots, PREFIX_WORDS + place] = rotate(leave[:, :size], cos, sin)
    state["recall"][slots, PREFIX_WORDS + place] = leave[:, size:]
    before = state["last"][slots]
    just = words.gather(1, (PREFIX_WORDS + before.clamp(min=0) % shape.ring)[:, None])
    just = just * ((before >= 0) & (inputs.turns - before == 1))[:, None]
    heard = F.linear(last, weights.heard)[:rows]
    found = torch.zeros(len(last), leave.shape[1] - size, device=last.device)
    if bool((just > 1).any()):
        same = (just > 1) & (just == words)
        same[:, PREFIX_WORDS:] &= used & (plan.stamp != before[:, None])
        found = recollect(state, slots, same, place, found)
    now = weights.recall(last, found)
    decision = F.linear(now, weights.decision, model.decision.bias)[:rows]

    def say(which: Sequence[int]) -> Tensor:
        usable = (torch.cat([used.new_ones(rows, PREFIX_WORDS), used], 1) & (words > 1))[which]
        query, gate = point(weights, rows4(now[which]), size)
        query, gate = query[: len(which)], gate[: len(which)]
        turned = rotate(query, cos[which], sin[which])
        keys = state["copy_keys"][slots[which]]
        pairs = (query[:, None].repeat(1, 4, 1), turned[:, None].repeat(1, 4, 1))
        scores = torch.cat([pairs[0] @ keys[:, :PREFIX_WORDS].mT, pairs[1] @ keys[:, PREFIX_WORDS:].mT], 2)[:, 0]
        wording = weights.wording(rows4(now[which]))[: len(which)]
        return mix(scores, usable, gate, wording, words[which], weights.pile)

    return StepOutputs(decision, heard, say)


def recollect(state: State, slots: Tensor, same: Tensor, place: Tensor, found: Tensor) -> Tensor:
    """Sum of the recall values of matching words, in the two halves of the ring."""
    rows = len(slots)
    weight = same.float()
    here = torch.arange(same.shape[1], device=same.device) <= PREFIX_WORDS + place[:, None]
    parts = torch.stack([weight * here, weight * ~here], 1)
    sums = torch.cat([parts, parts], 1) @ state["recall"][slots]
    found[:rows] = (sums[:, 0] + sums[:, 1]) * torch.rsqrt(1 + weight.sum(-1, keepdim=True))
    return found


def point(weights: Weights, now: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Copy query (rows, head width) and the gate's share (rows, 1)."""
    out = F.linear(now, weights.point, weights.point_bias)
    return out[:, :size], logistic(out[:, size : size + 1])


def mix(scores: Tensor, usable: Tensor, gate: Tensor, wording: Tensor, words: Tensor, pile: Pile) -> Tensor:
    """Log-probabilities of what to say, (rows, vocabulary): copying and wording in proportion of `gate`."""
    attention = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
    copied = pile(torch.zeros_like(wording), words, attention)
    share = gate * usable.any(-1, keepdim=True)
    return (share * copied + (1 - share) * wording + 1e-9).log()


def commit(state: State, shape: Shape, inputs: StepInputs, chosen: dict[str, Tensor]) -> None:
    """Make it true: what was chosen, then that the micro-turn has run."""
    place = inputs.turns % shape.ring
    for name, value in chosen.items():
        state[name][inputs.slots, place] = value
    word = inputs.event.where(inputs.event > 0, chosen["heard"])  # a typed word counts as heard
    state["words"][inputs.slots, PREFIX_WORDS + place] = word
    state["stamp"][inputs.slots, place] = inputs.turns
    state["last"][inputs.slots] = inputs.turns
