"""One micro-turn of any set of sessions as one batch, in place on their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.engine.arithmetic import Weights, logistic, rotate, rows4, unit
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


def step(weights: Weights, shape: Shape, state: State, inputs: StepInputs) -> StepOutputs:
    """Run one micro-turn of every session in `inputs`. `state` then holds it all but the choice of words, which the
    caller makes and `commit`s; until then the micro-turn has not happened."""
    config, rows = shape.config, len(inputs.slots)
    glances = 0 if inputs.frames is None else shape.glances
    p = config.positions + glances
    place = inputs.turns % shape.ring
    x = _embed(weights, shape, state, inputs, place)
    cos, sin = weights.rotary(inputs.turns, glances)
    plan = _plan(shape, state, inputs, place, p, cos, sin, len(x))
    for number, layer in enumerate(weights.layers):
        plain, v = weights.project(layer, x)
        turned = plain * plan.cos + plain.roll(plan.half_width, -1) * plan.sin
        keys, values = state[f"keys.{number}"], state[f"values.{number}"]
        size = keys.shape[-1]
        if rows < len(x):
            turned, plain, v = turned[:, :rows], plain[:, :rows], v[:rows]
        keys.view(-1, size).index_copy_(0, plan.at, turned[1].reshape(-1, size))
        values.view(-1, size).index_copy_(0, plan.at, v.reshape(-1, size))
        flat = _attend(plan, turned[0], plain[0], keys, values).transpose(1, 2).flatten(2)
        if rows < len(x):
            flat = torch.cat([flat, flat[:1].expand(len(x) - rows, -1, -1)])
        x = weights.finish(layer, x, flat)
    last = rows4(unit(x[:rows, -1]) * weights.final)
    return _read(weights, shape, state, inputs, place, last, cos[:, -1], sin[:, -1])


def _embed(weights: Weights, shape: Shape, state: State, inputs: StepInputs, place: Tensor) -> Tensor:
    """Positions of the micro-turn, (at least `rows`, positions, width): filled up so that no product has few rows."""
    rows = len(inputs.slots)
    proactivity = state["proactivity"][inputs.slots]
    more = weights.feedback(inputs.heard, inputs.said, inputs.event, inputs.marks, proactivity)
    bins = inputs.bins
    short = -(-4 // weights.config.positions) - rows
    if short > 0:
        bins = torch.cat([bins, bins[:1].expand(short, -1, -1)])
        more = torch.cat([more, more[:1].expand(short, -1)])
    x = weights.sound(bins)
    x[:, 0] += more
    if shape.glances:
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
    if len(x) > len(seen):
        seen = torch.cat([seen, seen[:1].expand(len(x) - len(seen), -1, -1)])
    return torch.cat([seen, x], 1)


@dataclass(slots=True)
class _Plan:
    """What all layers of one step share.

    cos, sin: of the rotation, laid out for `x * cos + roll(x) * sin`. at: int64, rows of a layer's keys seen as (slots
    x heads x positions, head width) that this micro-turn writes. mask: additive (rows, 1, p, keys), what each position
    may attend to. half: float (rows, 1, 2, 1, keys), to which half of the ring a key belongs: 1 in [0] for the prefix
    and the current lap, 1 in [1] for the lap before. runs: see `_runs`. pinned: whether any row has a prefix.
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


def _plan(
    shape: Shape, state: State, inputs: StepInputs, place: Tensor, p: int, cos: Tensor, sin: Tensor, padded: int
) -> _Plan:
    slots, per_turn, heads = inputs.slots, shape.per_turn, shape.config.heads
    rows, device = len(slots), inputs.slots.device
    first = PREFIX_WORDS + place * per_turn + per_turn - p
    lines = (slots[:, None] * heads + torch.arange(heads, device=device)) * shape.keys + first[:, None]
    at = (lines[:, :, None] + torch.arange(p, device=device)).flatten()
    turn_cos, turn_sin = torch.cat([cos, cos], -1)[:, None], torch.cat([-sin, sin], -1)[:, None]
    if padded > rows:
        turn_cos, turn_sin = (torch.cat([t, t[:1].expand(padded - rows, -1, -1, -1)]) for t in (turn_cos, turn_sin))
    prefix = state["words"][slots, :PREFIX_WORDS] > 0
    mask, half = _window(shape, state, inputs, place, p, prefix)
    return _Plan(p, turn_cos, turn_sin, cos.shape[-1], at, mask, half, _runs(slots.tolist()), bool(prefix.any()))


def _window(
    shape: Shape, state: State, inputs: StepInputs, place: Tensor, p: int, prefix: Tensor
) -> tuple[Tensor, Tensor]:
    """`mask` and `half` of a plan."""
    slots, ring, per_turn = inputs.slots, shape.ring, shape.per_turn
    rows, device = len(slots), inputs.slots.device
    stamp = state["stamp"][slots]
    gone = (stamp <= inputs.turns[:, None] - shape.config.window) | (stamp < 0)
    each = gone[:, None, :, None].expand(rows, p, ring, per_turn)
    if shape.glances:
        blind = torch.zeros(per_turn, dtype=torch.bool, device=device)
        blind[: shape.glances] = True
        each = each | (~state["glanced"][slots][:, None, :, None] & blind)
    hidden = torch.cat([~prefix[:, None].expand(rows, p, -1), each.flatten(2)], 2)
    own = torch.ones(p, per_turn, dtype=torch.bool, device=device)
    own[:, per_turn - p :] = torch.ones(p, p, dtype=torch.bool, device=device).triu(1)
    columns = (PREFIX_WORDS + place * per_turn)[:, None, None] + torch.arange(per_turn, device=device)
    hidden.scatter_(2, columns.expand(rows, p, -1), own.expand(rows, -1, -1))
    mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, NOTHING)[:, None]
    end = PREFIX_WORDS + (place + 1) * per_turn
    now = torch.arange(shape.keys, device=device) < end[:, None]
    half = torch.stack([now, ~now], 1).float()[:, None, :, None]
    return mask, half


def _runs(slots: list[int]) -> list[tuple[int, int, int]]:
    """Neighbouring slots as (first slot, first row, count): their keys are one view, nothing is copied."""
    runs: list[tuple[int, int, int]] = []
    for row, slot in enumerate(slots):
        if runs and slot == runs[-1][0] + runs[-1][2]:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((slot, row, 1))
    return runs


def _attend(plan: _Plan, turned: Tensor, plain: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention (rows, heads, positions, head width): rotated queries meet the ring, plain ones the prefix.

    Values are summed in two parts, the current lap of the ring and the lap before, added at the end: a whole scene can
    then be computed lap by lap and sum the same numbers in the same order.
    """
    rows, heads, p, size = turned.shape
    if plan.pinned or p < 4:
        queries = torch.stack([turned, plain], 2).view(rows * heads, 2 * p, size)
        queries = queries if 2 * p >= 4 else queries.repeat(1, 2, 1)
    else:
        queries = turned.reshape(rows * heads, p, size)
    keys, values = keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)
    out = []
    for slot, row, count in plan.runs:
        lines, part = slice(slot * heads, (slot + count) * heads), slice(row * heads, (row + count) * heads)
        both = torch.bmm(queries if count == rows else queries[part], keys[lines])
        scores = both[:, :p]
        if plan.pinned:
            scores = torch.cat([both[:, p : 2 * p, :PREFIX_WORDS], scores[:, :, PREFIX_WORDS:]], 2)
        mask, half = (plan.mask, plan.half) if count == rows else (t[row : row + count] for t in (plan.mask, plan.half))
        share = (scores.unflatten(0, (count, heads)) + mask).softmax(-1)
        halves = (share.unsqueeze(2) * half).view(count * heads, 2 * p, -1)
        sums = torch.bmm(halves if 2 * p >= 4 else halves.repeat(1, 2, 1), values[lines])
        out.append(sums[:, :p] + sums[:, p : 2 * p])
    return (out[0] if len(out) == 1 else torch.cat(out)).view(rows, heads, p, size)


def _read(
    weights: Weights,
    shape: Shape,
    state: State,
    inputs: StepInputs,
    place: Tensor,
    last: Tensor,
    cos: Tensor,
    sin: Tensor,
) -> StepOutputs:
    """Outputs from the last positions (at least 4 rows, width), the words of the window and the prefix."""
    model, slots, rows = weights.model, inputs.slots, len(inputs.slots)
    size = cos.shape[-1] * 2
    leave = F.linear(last, weights.leave, weights.leave_bias)[:rows]
    state["copy_keys"][slots, PREFIX_WORDS + place] = rotate(leave[:, :size], cos, sin)
    state["recall"][slots, PREFIX_WORDS + place] = leave[:, size:]
    words = state["words"][slots]
    before = state["last"][slots]
    just = words.gather(1, (PREFIX_WORDS + before.clamp(min=0) % shape.ring)[:, None])
    just = just * ((before >= 0) & (inputs.turns - before == 1))[:, None]
    stamp = state["stamp"][slots]
    used = (stamp > inputs.turns[:, None] - shape.config.window) & (stamp >= 0)
    heard = F.linear(last, weights.heard)[:rows]
    found = torch.zeros(len(last), leave.shape[1] - size, device=last.device)
    if bool((just > 1).any()):
        same = (just > 1) & (just == words)
        same[:, PREFIX_WORDS:] &= used & (stamp != before[:, None])
        found = _recollect(state, slots, same, place, found)
    now = weights.recall(last, found)
    decision = F.linear(now, model.decision.weight, model.decision.bias)[:rows]

    def say(which: Sequence[int]) -> Tensor:
        usable = (torch.cat([used.new_ones(rows, PREFIX_WORDS), used], 1) & (words > 1))[which]
        query, gate = point(weights, rows4(now[which]), size)
        query, gate = query[: len(which)], gate[: len(which)]
        turned = rotate(query, cos[which], sin[which])
        keys = state["copy_keys"][slots[which]]
        pairs = (query[:, None].repeat(1, 4, 1), turned[:, None].repeat(1, 4, 1))
        scores = torch.cat([pairs[0] @ keys[:, :PREFIX_WORDS].mT, pairs[1] @ keys[:, PREFIX_WORDS:].mT], 2)[:, 0]
        wording = weights.wording(rows4(now[which]))[: len(which)]
        return mix(scores, usable, gate, wording, words[which])

    return StepOutputs(decision, heard, say)


def _recollect(state: State, slots: Tensor, same: Tensor, place: Tensor, found: Tensor) -> Tensor:
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


def mix(scores: Tensor, usable: Tensor, gate: Tensor, wording: Tensor, words: Tensor) -> Tensor:
    """Log-probabilities of what to say, (rows, vocabulary): copying and wording in proportion of `gate`."""
    attention = scores.masked_fill(~usable, -1e9).softmax(-1) * usable
    copied = torch.zeros_like(wording).scatter_add(1, words, attention)
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
