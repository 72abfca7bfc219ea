"""Many micro-turns at once in the arithmetic of the live step: prefill, and the forward pass of training.

The ring is walked lap by lap. Within a lap each query sees two halves: the micro-turns of this lap up to its own, and
those of the lap before it beyond its own place. The live step sums the same halves in the same places, so what comes
out is the same to the last bit (see `docs/engine.md` for what exactly equals what).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.engine.arithmetic import ROWS, Weights, rotate, unit
from interplay.engine.state import Shape, State
from interplay.engine.step import NOTHING, mix, point
from interplay.model.blocks import prefix_rotary
from interplay.model.config import PREFIX_WORDS
from interplay.model.transformer import Inputs, InteractionModel, Outputs


def pin(weights: Weights, prefix: Tensor) -> State:
    """What the words before a session leave in its row. prefix: int64 (words,), up to 48. Rows without a batch axis."""
    model = weights.model
    words = F.pad(prefix, (0, PREFIX_WORDS - len(prefix)))
    layers, last = model.read_prefix(words[None])
    pinned: State = {}
    for number, layer in enumerate(layers):
        pinned[f"keys.{number}"], pinned[f"values.{number}"] = layer.keys[0], layer.values[0]
    leave = F.linear(last[0], weights.leave, weights.leave_bias)
    cos, sin = prefix_rotary(weights.config)
    size = cos.shape[-1] * 2
    pinned["copy_keys"] = rotate(leave[:, :size], cos.to(leave.device), sin.to(leave.device))
    pinned["recall"], pinned["words"] = leave[:, size:], words
    return pinned


def blank(weights: Weights, shape: Shape, prefixes: Tensor | None, batch: int) -> State:
    """Rows (batch, ...) of the tensors that a lap reads and writes, before the first micro-turn; differentiable."""
    config, device = shape.config, weights.model.words.device
    size = config.width // config.heads
    empty: State = {
        "copy_keys": torch.zeros(batch, PREFIX_WORDS + shape.ring, size, device=device),
        "recall": torch.zeros(batch, PREFIX_WORDS + shape.ring, weights.model.recall.SIZE, device=device),
        "words": torch.zeros(batch, PREFIX_WORDS + shape.ring, dtype=torch.int64, device=device),
        "stamp": torch.full((batch, shape.ring), -1, device=device),
    }
    for number in range(config.layers):
        for kind in ("keys", "values"):
            empty[f"{kind}.{number}"] = torch.zeros(batch, config.heads, shape.keys, size, device=device)
    if prefixes is None:
        return empty
    pinned = [pin(weights, row[row > 0]) if bool((row > 0).any()) else None for row in prefixes]
    for name in empty:
        if name == "stamp":
            continue
        axis = 1 if name[0] in "kv" else 0
        rows = []
        for row, own in zip(empty[name], pinned, strict=True):
            rest = row.narrow(axis, PREFIX_WORDS, row.shape[axis] - PREFIX_WORDS)
            rows.append(row if own is None else torch.cat([own[name], rest], axis))
        empty[name] = torch.stack(rows)
    return empty


def forward(model: InteractionModel, inputs: Inputs, ran: Tensor | None = None) -> Outputs:
    """The training forward pass, differentiable, in the arithmetic of the engine.

    For a session fed with these very inputs, the engine's logits are these, bit for bit. inputs: as for
    `InteractionModel.forward`. ran: bool (batch, turns), False for micro-turns that never ran (their outputs mean
    nothing); default: all did. Outputs are (batch, turns, ...).
    """
    weights = Weights(model)
    ran = None if ran is None else ran.to(inputs.bins.device)
    shape = Shape(model.config, 0 if inputs.frames is None else model.config.glances)
    batch, turns = inputs.bins.shape[:2]
    state = blank(weights, shape, inputs.prefix, batch)
    outs: list[list[Tensor]] = []
    for start in range(0, turns, shape.ring):
        count = min(shape.ring, turns - start)
        part = _slice(inputs, start, count, model)
        live = part.bins.new_ones(batch, count, dtype=torch.bool) if ran is None else ran[:, start : start + count]
        if count < ROWS:
            part, live = _fill(part, ROWS - count), F.pad(live, (0, ROWS - count))
        before = live.new_zeros(batch) if start == 0 else (live.new_ones(batch) if ran is None else ran[:, start - 1])
        out, state = lap(weights, shape, state, start, part, live, before)
        outs.append([values[:, :count] for values in out[:3]])
    return Outputs(*(torch.cat(values, 1) for values in zip(*outs, strict=True)))


def _slice(inputs: Inputs, start: int, count: int, model: InteractionModel) -> Inputs:
    """Micro-turns [start, start + count), with everything that may be None filled in, and the frame before in front."""
    batch, device = len(inputs.bins), inputs.bins.device
    part = slice(start, start + count)
    marks = torch.zeros(batch, count, len(model.marks), dtype=torch.bool, device=device)
    frames = None
    if inputs.frames is not None:
        frames = torch.cat([inputs.frames[:, max(start - 1, 0)][:, None], inputs.frames[:, part]], 1)
    return Inputs(
        inputs.bins[:, part],
        inputs.heard[:, part],
        inputs.said[:, part],
        inputs.transcript[:, part],
        torch.zeros_like(inputs.heard[:, part]) if inputs.event is None else inputs.event[:, part],
        marks if inputs.marks is None else inputs.marks[:, part],
        None,
        torch.full((batch,), 0.5, device=device) if inputs.proactivity is None else inputs.proactivity,
        frames,
    )


def _fill(inputs: Inputs, more: int) -> Inputs:
    """Some micro-turns more at the end, which no earlier one can see."""

    def longer(x: Tensor) -> Tensor:
        return torch.cat([x, x[:, -1:].expand(-1, more, *x.shape[2:])], 1)

    names = ("bins", "heard", "said", "transcript", "event", "marks", "frames")
    return replace(inputs, **{name: longer(x) for name in names if (x := getattr(inputs, name)) is not None})


def lap(
    weights: Weights, shape: Shape, state: State, start: int, inputs: Inputs, ran: Tensor, before: Tensor
) -> tuple[Outputs, State]:
    """Micro-turns `start` .. of one lap of the ring, for rows (batch, ...) of `state`.

    inputs: (batch, turns, ...), complete, frames with the one before in front. ran: bool (batch, turns). before: bool
    (batch,), whether the micro-turn before `start` ran. Returns outputs (batch, at least turns, ...) and the rows
    after it; `state` is left alone, so that gradients can flow through both.
    """
    turns = inputs.bins.shape[1]
    place = start % shape.ring
    assert place + turns <= shape.ring, "a chunk lies within one lap"
    p = shape.per_turn
    index = torch.arange(turns, device=inputs.bins.device)
    x = _embed(weights, shape, inputs, start)
    cos, sin = (t.flatten(0, 1) for t in weights.rotary(start + index, shape.glances))
    after = dict(state)
    stamps = torch.where(ran, start + index, torch.full_like(index, -1))
    after["stamp"] = _write(state["stamp"], stamps, place, 1)
    mask, half = _window(shape, state, after, start, turns)
    for number, layer in enumerate(weights.layers):
        (plain, k), v = weights.project(layer, x, len(x))
        old = state[f"keys.{number}"], state[f"values.{number}"]
        at = PREFIX_WORDS + place * p
        new = tuple(_write(o, t, at, 2) for o, t in zip(old, (rotate(k, cos, sin), v), strict=True))
        after[f"keys.{number}"], after[f"values.{number}"] = new
        q, plain = rotate(plain, cos, sin).contiguous(), plain.contiguous()
        ring = [q @ keys[:, :, PREFIX_WORDS:].transpose(2, 3) for keys in (new[0], old[0])]
        scores = torch.cat([plain @ new[0][:, :, :PREFIX_WORDS].transpose(2, 3), ring[0]], 3)
        scores = torch.where(half, scores, F.pad(ring[1], (PREFIX_WORDS, 0)))
        share = (scores + mask).softmax(-1)
        attended = (share * half) @ new[1] + (share * ~half) @ old[1]
        x = weights.finish(layer, x, attended.transpose(1, 2).flatten(2))
    last = unit(x[:, p - 1 :: p]) * weights.final
    turn_cos, turn_sin = cos[p - 1 :: p], sin[p - 1 :: p]
    out = _read(weights, shape, state, after, start, inputs, last, turn_cos, turn_sin, ran, before)
    return out, after


def _write(old: Tensor, new: Tensor, at: int, axis: int) -> Tensor:
    """`old` with `new` in its place, as a new tensor."""
    end = at + new.shape[axis]
    return torch.cat([old.narrow(axis, 0, at), new, old.narrow(axis, end, old.shape[axis] - end)], axis)


def _embed(weights: Weights, shape: Shape, inputs: Inputs, start: int) -> Tensor:
    batch, turns = inputs.bins.shape[:2]
    assert inputs.event is not None and inputs.marks is not None and inputs.proactivity is not None
    fed = (inputs.heard, inputs.said, inputs.event, inputs.marks, inputs.proactivity[:, None].expand(batch, turns))
    index = (start + torch.arange(turns, device=inputs.bins.device)).expand(batch, turns)
    more = weights.feedback(*(part.flatten(0, 1) for part in (*fed, index)))
    x = weights.sound(inputs.bins.flatten(0, 1))
    x = torch.cat([x[:, :1] + more[:, None], x[:, 1:]], 1)
    if shape.glances:
        assert inputs.frames is not None
        now, previous = inputs.frames[:, 1:].flatten(0, 1), inputs.frames[:, :-1].flatten(0, 1)
        x = torch.cat([weights.glance(now, previous), x], 1)
    return x.view(batch, turns * shape.per_turn, -1)


def _window(shape: Shape, state: State, after: State, start: int, turns: int) -> tuple[Tensor, Tensor]:
    """Additive mask (batch, 1, positions, keys) and which keys are read from `after`: bool (positions,
    keys); the others are read from `state`."""
    ring, p, window = shape.ring, shape.per_turn, shape.config.window
    device = after["stamp"].device
    place, index = start % ring, torch.arange(turns, device=device)
    lap = torch.arange(ring, device=device)[None] <= (place + index)[:, None]
    stamp = torch.where(lap, after["stamp"][:, None], state["stamp"][:, None])  # (batch, turns, ring)
    valid = (stamp >= 0) & (stamp > (start + index)[:, None] - window)
    seen = valid[:, :, None, :, None].expand(-1, turns, p, ring, p).clone()
    if shape.glances and "glanced" in state:
        seen[..., : shape.glances] &= state["glanced"][:, None, None, :, None]
    own = torch.ones(p, p, dtype=torch.bool, device=device).tril()
    seen[:, index, :, place + index] = own
    seen = seen.view(len(valid), turns * p, ring * p)
    prefix = (state["words"][:, :PREFIX_WORDS] > 0)[:, None].expand(-1, turns * p, -1)
    mask = torch.cat([prefix, seen], 2)
    mask = torch.zeros(mask.shape, device=device).masked_fill_(~mask, NOTHING)[:, None]
    now = lap.repeat_interleave(p, 1).repeat_interleave(p, 0)
    return mask, torch.cat([now.new_ones(turns * p, PREFIX_WORDS), now], 1)


def _read(
    weights: Weights,
    shape: Shape,
    state: State,
    after: State,
    start: int,
    inputs: Inputs,
    last: Tensor,
    cos: Tensor,
    sin: Tensor,
    ran: Tensor,
    continued: Tensor,
) -> Outputs:
    """Outputs from the last positions (batch, turns, width)."""
    model, (batch, turns) = weights.model, last.shape[:2]
    ring, window, place, device = shape.ring, shape.config.window, start % shape.ring, last.device
    assert inputs.event is not None
    size = cos.shape[-1] * 2
    rows = last.flatten(0, 1)
    leave = F.linear(rows, weights.leave, weights.leave_bias).view(batch, turns, -1)
    at = PREFIX_WORDS + place
    after["copy_keys"] = _write(state["copy_keys"], rotate(leave[..., :size], cos, sin), at, 1)
    after["recall"] = _write(state["recall"], leave[..., size:], at, 1)
    heard = inputs.event.where(inputs.event > 0, inputs.transcript)
    after["words"] = _write(state["words"], heard, at, 1)
    index = torch.arange(turns, device=device)
    here = torch.arange(PREFIX_WORDS + ring, device=device)[None] <= (at + index)[:, None]
    words = torch.where(here, after["words"][:, None], state["words"][:, None])  # (batch, turns, keys)
    stamp = torch.where(here[:, PREFIX_WORDS:], after["stamp"][:, None], state["stamp"][:, None])
    turn = (start + index)[:, None]
    used = (stamp >= 0) & (stamp > turn - window) & (stamp != turn)
    lately = state["words"][:, PREFIX_WORDS + (start - 1) % ring] * continued
    just = torch.cat([lately[:, None], heard[:, :-1] * ran[:, :-1]], 1)[..., None]
    same = (just > 1) & (just == words)
    same = torch.cat([same[..., :PREFIX_WORDS], same[..., PREFIX_WORDS:] & used & (stamp != turn - 1)], 2)
    weight = same.float()
    found = (weight * here) @ after["recall"] + (weight * ~here) @ state["recall"]
    found = found * torch.rsqrt(1 + weight.sum(-1, keepdim=True))
    now = weights.recall(rows, found.flatten(0, 1))
    query, gate = point(weights, now, size)
    query = query.view(batch, turns, -1)
    turned = rotate(query, cos, sin)
    new, old = (turned @ keys["copy_keys"][:, PREFIX_WORDS:].mT for keys in (after, state))
    before = query @ after["copy_keys"][:, :PREFIX_WORDS].mT
    scores = torch.cat([before, torch.where(here[:, PREFIX_WORDS:], new, old)], 2)
    usable = torch.cat([used.new_ones(batch, turns, PREFIX_WORDS), used], 2) & (words > 1)
    flat = (scores.flatten(0, 1), usable.flatten(0, 1), gate, weights.wording(now), words.flatten(0, 1), weights.pile)
    said = mix(*flat).view(batch, turns, -1)
    decision = F.linear(now, weights.decision, model.decision.bias).view(batch, turns, -1)
    return Outputs(decision, F.linear(rows, weights.heard).view(batch, turns, -1), said)
