"""Everything a session is to the engine: one row of each tensor in a flat dict, allocated at start and never grown.

A row's window is a ring of `window + ROLLBACK` micro-turns in absolute alignment: micro-turn `t` always lies at
`t mod ring`, so evicting the oldest is overwriting it, whole, and nothing ever moves or is rotated again. The words set
before the session are pinned in front of the ring and never evicted. `stamp` says which micro-turn really lies where;
a step commits by writing it last, so a step that dies half-way has not happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from interplay.model.config import DECISIONS, PREFIX_WORDS, ModelConfig
from interplay.model.pointer import Recall

ROLLBACK = 32  # micro-turns that can be taken back: 6.4 s
FRAME = (80, 80, 3)
META_BYTES = 512

State = dict[str, Tensor]

_EMPTY = {"stamp": -1, "last": -1, "proactivity": 0.5}


class Shape(NamedTuple):
    """Sizes that follow from a model and from whether a session brings video."""

    config: ModelConfig
    glances: int

    @property
    def per_turn(self) -> int:
        """Positions of a micro-turn."""
        return self.config.positions + self.glances

    @property
    def ring(self) -> int:
        """Micro-turns that the ring holds."""
        return self.config.window + ROLLBACK

    @property
    def keys(self) -> int:
        """Positions that attention runs over: prefix and ring."""
        return PREFIX_WORDS + self.ring * self.per_turn


def state_spec(shape: Shape) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """name -> shape of one session's row and dtype.

    keys.L, values.L: of layer L (heads, 48 + ring x positions, head width). copy_keys, recall, words: what a micro-turn
    leaves for later ones to look back at, and the word it heard or read, prefix first. stamp: which micro-turn lies in
    a ring place, -1 for none. last: the last micro-turn that ran. heard, said, decision, odds, digest: what came out
    of each (and of which input), which is also what the next one is fed. glanced: whether it had a frame. meta: who
    sits here, as JSON, so that a process that maps this memory knows everything.
    """
    config, ring = shape.config, shape.ring
    size = config.width // config.heads
    whole, real, mark = torch.int64, torch.float32, torch.bool
    spec: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for layer in range(config.layers):
        for kind in ("keys", "values"):
            spec[f"{kind}.{layer}"] = ((config.heads, shape.keys, size), real)
    spec |= {
        "copy_keys": ((PREFIX_WORDS + ring, size), real),
        "recall": ((PREFIX_WORDS + ring, Recall.SIZE), real),
        "words": ((PREFIX_WORDS + ring,), whole),
        "proactivity": ((), real),
        "heard": ((ring,), whole),
        "said": ((ring,), whole),
        "decision": ((ring,), whole),
        "odds": ((ring, len(DECISIONS)), real),
        "digest": ((ring,), whole),
        "stamp": ((ring,), whole),
        "last": ((), whole),
        "meta": ((META_BYTES,), torch.uint8),
    }
    if shape.glances:
        spec |= {"glanced": ((ring,), mark), "frames": ((ROLLBACK + 1, *FRAME), torch.uint8)}
    return spec


def row_bytes(shape: Shape) -> int:
    """Bytes of one session."""
    return sum(torch.Size(size).numel() * dtype.itemsize for size, dtype in state_spec(shape).values())


def allocate(shape: Shape, slots: int, buffer: memoryview | None = None, device: str | torch.device = "cpu") -> State:
    """All rows at once, empty. buffer: memory to lay them in (shared with another process), as it is, not emptied."""
    if buffer is None:
        # Filled, not `torch.zeros`: its pages would not exist before they are written, and a full machine would say so
        # in the middle of a conversation.
        return {
            name: torch.full((slots, *size), _EMPTY.get(name, 0), dtype=dtype, device=device)
            for name, (size, dtype) in state_spec(shape).items()
        }
    state, at = {}, 0
    for name, (size, dtype) in state_spec(shape).items():
        count = slots * torch.Size(size).numel()
        state[name] = torch.frombuffer(buffer, dtype=dtype, count=count, offset=at).view(slots, *size)
        at += -(-count * dtype.itemsize // 64) * 64
    return state


def buffer_bytes(shape: Shape, slots: int) -> int:
    """Bytes of memory that `allocate` lays `slots` rows in."""
    spec = state_spec(shape).values()
    return sum(-(-slots * torch.Size(size).numel() * dtype.itemsize // 64) * 64 for size, dtype in spec)


def clear(state: State, slot: int) -> None:
    """Forget whoever was here. Zeroes, not only marks: what a mask would hide is not there at all."""
    for name, tensor in state.items():
        tensor[slot].fill_(_EMPTY.get(name, 0))


def take(state: State, slot: int) -> State:
    """A copy of one row."""
    return {name: tensor[slot].cpu().clone() for name, tensor in state.items()}


def put(state: State, slot: int, row: Mapping[str, Tensor]) -> None:
    """Fill a row from a copy. Raises ValueError if it is not of this shape; then nothing has changed."""
    if row.keys() != state.keys():
        raise ValueError(f"other tensors than this engine's: {', '.join(sorted(row.keys() ^ state.keys()))}")
    for name, tensor in state.items():
        if row[name].shape != tensor.shape[1:] or row[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {tuple(row[name].shape)}, not {tuple(tensor.shape[1:])}")
    for name, tensor in state.items():
        tensor[slot].copy_(row[name])


def rewind(state: State, slot: int, turn: int) -> int:
    """Take back micro-turn `turn` and all later ones; the last one that is left, -1 for none. The caller has checked
    that they are within `ROLLBACK`.

    What they overwrote had left the window of every micro-turn that can run from here.
    """
    stamp = state["stamp"][slot]
    gone = stamp >= turn
    kept = stamp[~gone]
    last = int(kept.max()) if len(kept) else -1
    state["last"][slot] = last
    stamp[gone] = -1
    return last
