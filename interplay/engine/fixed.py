"""One micro-turn of whoever is due among all slots of a pool, always in one shape.

The same arithmetic as `step.py`, for a machine whose products depend on their shape, and for CUDA, where a step is
recorded once and played again and again (see `graph.py`): nothing here looks at a value on the host, no shape and no
branch depends on who is due or on what was said, and what `step.py` leaves out when nobody needs it is always computed.
A row that adds nothing keeps its bits; a row that is not due changes nothing at all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from interplay.engine.arithmetic import ROWS, Weights, fill, mixture_whole, rotate, rows4, unit
from interplay.engine.state import FRAME, ROLLBACK
from interplay.engine.step import Arena, Plan, attend, lay_out, mix, point, recollect
from interplay.model.config import DECISIONS, MARKS, PREFIX_WORDS, WORDED
from interplay.model.decode import decide
from interplay.model.dmel import CHANNELS, FRAMES

Spec = dict[str, tuple[tuple[int, ...], torch.dtype]]


class Given(NamedTuple):
    """What goes in, a row for every slot; of rows that are not due all but `due` may be anything.

    due: bool (slots,). turn: int64 (slots,), later than its row's last. bins: uint8 (slots, 10, 80). voiced: int64
    (slots,), what a voice said in the micro-turn before, -1 for what the model put out. event: int64 (slots,). marks:
    bool (slots, 3). threshold: float (slots,). digest: int64 (slots,). frames: uint8 (slots, 80, 80, 3), or None for a
    step of those who have no frame now.
    """

    due: Tensor
    turn: Tensor
    bins: Tensor
    voiced: Tensor
    event: Tensor
    marks: Tensor
    threshold: Tensor
    digest: Tensor
    frames: Tensor | None = None


class Taken(NamedTuple):
    """What comes out, a row for every slot, those that are not due meaningless. heard, said, decision: int64 (slots,).
    odds: float (slots, 7)."""

    heard: Tensor
    said: Tensor
    decision: Tensor
    odds: Tensor


class Computed(NamedTuple):
    """Before anything is chosen. decision: logits (slots, 7). heard: logits (slots, vocabulary). said: of the output
    word, log-probabilities, same shape. turn, place: int64 (slots,), each row's micro-turn and where it lies in the
    ring."""

    decision: Tensor
    heard: Tensor
    said: Tensor
    turn: Tensor
    place: Tensor


def given_spec(glances: int) -> Spec:
    """name -> shape of one row and dtype, of `Given`."""
    whole = ((), torch.int64)
    spec: Spec = {
        "due": ((), torch.bool),
        "turn": whole,
        "bins": ((FRAMES, CHANNELS), torch.uint8),
        "voiced": whole,
        "event": whole,
        "marks": ((len(MARKS),), torch.bool),
        "threshold": ((), torch.float32),
        "digest": whole,
    }
    return spec | ({"frames": (FRAME, torch.uint8)} if glances else {})


def taken_spec() -> Spec:
    """name -> shape of one row and dtype, of `Taken`."""
    whole = ((), torch.int64)
    return {"heard": whole, "said": whole, "decision": whole, "odds": ((len(DECISIONS),), torch.float32)}


def fixed_step(weights: Weights, arena: Arena, given: Given) -> Taken:
    """Run and commit one micro-turn of every row that is due."""
    return settle(arena, given, compute(weights, arena, given))


def compute(weights: Weights, arena: Arena, given: Given) -> Computed:
    """As `step`: the state then holds it all but what is chosen; until `settle`, the micro-turn has not happened."""
    shape, state, slots = arena.shape, arena.state, arena.slots
    rows, glances = len(slots), 0 if given.frames is None else shape.glances
    p = shape.config.positions + glances
    turn = given.turn.where(given.due, state["last"] + 1)
    place = turn % shape.ring
    x = _embed(weights, arena, given, turn, place)
    cos, sin = weights.rotary(turn, glances)
    plan, _ = lay_out(arena, slots, turn, place, p, cos, sin, [(0, 0, rows)])
    size = 2 * plan.half_width
    due = given.due[:, None, None].expand(rows, shape.config.heads, p).reshape(-1, 1)
    for layer, memory in zip(weights.layers, arena.layers, strict=True):
        plain, v = weights.project(layer, x, rows)
        turned = plain * plan.cos + plain.roll(plan.half_width, -1) * plan.sin
        for lines, new in ((memory.key_lines, turned[1]), (memory.value_lines, v)):
            lines.index_copy_(0, plan.at, torch.where(due, new.reshape(-1, size), lines.index_select(0, plan.at)))
        attended = attend(plan, turned[0], plain, memory).transpose(1, 2).flatten(2)
        x = weights.finish(layer, x, fill(attended, len(x)), mixture_whole)
    last = rows4(unit(x[:rows, -1]) * weights.final)
    decision, heard, said = _read(weights, arena, given, plan, turn, place, last, cos[:, -1], sin[:, -1])
    return Computed(decision, heard, said, turn, place)


def settle(arena: Arena, given: Given, out: Computed) -> Taken:
    """Choose, and commit what was chosen for the rows that are due, `stamp` and `last` at the end."""
    state = arena.state
    heard, odds = out.heard.argmax(-1), out.decision.softmax(-1)
    decision = decide(odds, given.threshold)
    worded = torch.zeros_like(given.due)
    for number in WORDED:
        worded = worded | (decision == number)
    said = (out.said[:, 2:].argmax(-1) + 2) * worded  # having decided to put a word out, it does
    chosen = {"heard": heard, "said": said, "decision": decision, "odds": odds, "digest": given.digest}
    for name, value in chosen.items():
        _keep(arena, name, given.due, out.place, value)
    word = given.event.where(given.event > 0, heard)  # a typed word counts as heard
    _keep(arena, "words", given.due, PREFIX_WORDS + out.place, word)
    _keep(arena, "stamp", given.due, out.place, out.turn)
    state["last"].copy_(out.turn.where(given.due, state["last"]))
    return Taken(heard, said, decision, odds)


def _keep(arena: Arena, name: str, due: Tensor, place: Tensor, value: Tensor) -> None:
    """Write `value` at `place` of the rows that are due; the others get what they have."""
    tensor, slots = arena.state[name], arena.slots
    old = tensor[slots, place]
    tensor[slots, place] = torch.where(due.view(-1, *(1,) * (old.dim() - 1)), value, old)


def _embed(weights: Weights, arena: Arena, given: Given, turn: Tensor, place: Tensor) -> Tensor:
    """Positions of the micro-turn, (at least `slots`, positions, width)."""
    state, shape = arena.state, arena.shape
    before = state["last"]
    at = before.clamp(min=0) % shape.ring
    heard, said = (state[name][arena.slots, at] * (before >= 0) for name in ("heard", "said"))
    said = given.voiced.where(given.voiced >= 0, said)
    more = _feedback(weights, heard, said, given.event, given.marks, state["proactivity"], turn)
    enough = max(len(more), -(-ROWS // weights.config.positions))
    x = weights.sound(fill(given.bins, enough))
    x[:, 0] += fill(more, enough)
    if shape.glances:
        seen = torch.full_like(given.due, given.frames is not None)
        _keep(arena, "glanced", given.due, place, seen)
        x = _see(weights, arena, given, turn, x)
    return x


def _feedback(
    weights: Weights, heard: Tensor, said: Tensor, event: Tensor, marks: Tensor, proactivity: Tensor, turns: Tensor
) -> Tensor:
    """As `Weights.feedback`; a row without a word or mark keeps its bits, to the sign of a zero."""
    model = weights.model
    x = weights.clock(turns, (proactivity - 0.5).unsqueeze(-1) * model.manner)
    for ids, feed in zip((heard, said, event), weights.feeds, strict=True):
        more = F.linear(rows4(weights.look_up(ids)), feed)[: len(x)]
        x = torch.where((ids > 0)[:, None], x + more, x)
    for i in range(marks.shape[-1]):
        x = torch.where(marks[:, i : i + 1], x + model.marks[i], x)
    return x


def _see(weights: Weights, arena: Arena, given: Given, turn: Tensor, x: Tensor) -> Tensor:
    """`x` with the positions of the frames in front; see `step.py`."""
    state, frames = arena.state, given.frames
    before = state["last"]
    previous = state["frames"][arena.slots, before.clamp(min=0) % (ROLLBACK + 1)]
    _keep(arena, "frames", given.due, turn % (ROLLBACK + 1), previous if frames is None else frames)
    if frames is None:
        return x
    seen = weights.glance(frames, torch.where((before >= 0)[:, None, None, None], previous, frames))
    return torch.cat([fill(seen, len(x)), x], 1)


def _read(
    weights: Weights, arena: Arena, given: Given, plan: Plan, turn: Tensor, place: Tensor, last: Tensor, cos: Tensor,
    sin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Logits of the decision and of the word heard, log-probabilities of the word to put out."""
    model, shape, state = weights.model, arena.shape, arena.state
    rows, words, used = len(arena.slots), plan.words, plan.used
    size = cos.shape[-1] * 2
    leave = F.linear(last, weights.leave, weights.leave_bias)[:rows]
    _keep(arena, "copy_keys", given.due, PREFIX_WORDS + place, rotate(leave[:, :size], cos, sin))
    _keep(arena, "recall", given.due, PREFIX_WORDS + place, leave[:, size:])
    before = state["last"]
    just = words.gather(1, (PREFIX_WORDS + before.clamp(min=0) % shape.ring)[:, None])
    just = just * ((before >= 0) & (turn - before == 1))[:, None]
    same = (just > 1) & (just == words)
    same[:, PREFIX_WORDS:] &= used & (plan.stamp != before[:, None])
    found = torch.zeros(len(last), leave.shape[1] - size, device=last.device)
    found = recollect(state, arena.slots, same, place, found)
    # Who recalls nothing gets the zero that `step.py` leaves there, not a sum of zeroes, which may have a sign.
    found[:rows] = torch.where(same.any(-1, keepdim=True), found[:rows], torch.zeros_like(found[:rows]))
    now = weights.recall(last, found)
    decision = F.linear(now, weights.decision, model.decision.bias)[:rows]
    heard = F.linear(last, weights.heard)[:rows]
    usable = torch.cat([used.new_ones(rows, PREFIX_WORDS), used], 1) & (words > 1)
    speaking = rows4(now[:rows])
    query, gate = (part[:rows] for part in point(weights, speaking, size))
    keys = state["copy_keys"]
    pairs = (query[:, None].repeat(1, 4, 1), rotate(query, cos, sin)[:, None].repeat(1, 4, 1))
    scores = torch.cat([pairs[0] @ keys[:, :PREFIX_WORDS].mT, pairs[1] @ keys[:, PREFIX_WORDS:].mT], 2)[:, 0]
    said = mix(scores, usable, gate, weights.wording(speaking)[:rows], words, weights.pile)
    return decision, heard, said
