"""Streaming sessions on fixed slots: open, append, close, rollback, snapshot, restore. One owner of all state.

Nothing here knows about time or threads: whoever calls `step` decides when and with whom (see `clocked.py`).
"""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor

from interplay.core.types import BadInput
from interplay.engine import device as devices
from interplay.engine import exact, snapshots
from interplay.engine.arithmetic import ROWS, Weights
from interplay.engine.errors import NoSession, OutOfOrder, Overloaded
from interplay.engine.graph import Player
from interplay.engine.state import META_BYTES, ROLLBACK, Shape, State, allocate, clear, put, rewind, take
from interplay.engine.step import Arena, StepInputs, commit, step
from interplay.model.config import MARKS, PREFIX_WORDS, WORDED
from interplay.model.decode import SURE, decide
from interplay.model.dmel import CHANNELS, FRAMES
from interplay.model.transformer import Inputs, InteractionModel

NO_MARKS = (False,) * len(MARKS)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session wants to be. prefix: word ids pinned for its whole life, up to 48. proactivity: 0 .. 1. threshold:
    how sure the model must be that it is not to listen, 0 .. 1. video: the session brings frames."""

    prefix: tuple[int, ...] = ()
    proactivity: float = 0.5
    threshold: float = SURE
    video: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """Input of one micro-turn. bins: uint8 (10, 80). event: a word of a text event, 0 for none. marks: see MARKS.

    frame: uint8 (80, 80, 3) or None. said: what was audible in the micro-turn before if the session's voice said it
    (a delivered text); None: what the model put out. Turns ascend; those left out never ran, and time passed.
    """

    session: str
    turn: int
    bins: np.ndarray
    event: int = 0
    marks: tuple[bool, ...] = NO_MARKS
    frame: np.ndarray | None = None
    said: int | None = None

    def digest(self) -> int:
        """63 bits that tell this input from another."""
        h = hashlib.blake2b(np.ascontiguousarray(self.bins).tobytes(), digest_size=8)
        h.update(repr((self.event, tuple(map(bool, self.marks)), self.said)).encode())
        return int.from_bytes(h.digest(), "little") >> 1


@dataclass(frozen=True, slots=True)
class Chosen:
    """Output of one micro-turn: word ids heard and put out (0 for none), the decision and every decision's odds."""

    session: str
    turn: int
    heard: int
    said: int
    decision: int
    odds: tuple[float, ...]


@dataclass(slots=True)
class Seat:
    """A session in its slot. last: the last micro-turn that ran, as in the slot, which may be far away."""

    id: str
    slot: int
    opening: Opening
    last: int = -1
    extra: dict = field(default_factory=dict)


class Pool:
    """The slots of all sessions of one shape. A slot that was left is cleared before anyone else sits in it.

    player: runs the steps where they have one fixed shape.
    """

    def __init__(
        self, shape: Shape, slots: int, buffer: memoryview | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.shape, self.slots = shape, slots
        self.state: State = allocate(shape, slots, buffer, device)
        self.arena = Arena(shape, self.state)
        self.player: Player | None = None
        self.free = list(range(slots - 1, -1, -1))  # the lowest first: neighbours in the batch are neighbours in memory

    def take(self) -> int:
        if not self.free:
            raise Overloaded(f"all {self.slots} places are taken; try again later or elsewhere")
        return self.free.pop()

    def leave(self, slot: int) -> None:
        clear(self.state, slot)
        self.free.append(slot)
        self.free.sort(reverse=True)


class Engine:
    """All sessions of one process. Not thread-safe: one owner calls it.

    slots, video_slots: how many sessions without and with video. fixed: always run all slots of a pool in one shape,
    the fallback for a machine whose products depend on the batch (see `selftest.py`). device: see `device.choose`; on
    CUDA the shape is always fixed, and record: whether its steps are replayed as CUDA graphs. Raises BadInput.

    at_once: whether micro-turns whose outcome is known may be computed many at once. Not on CUDA before the self-test
    has found that the bits are the same; they are stepped through then.
    """

    def __init__(
        self,
        model: InteractionModel,
        *,
        slots: int = 16,
        video_slots: int = 0,
        fixed: bool = False,
        device: str | torch.device = "cpu",
        record: bool = True,
    ) -> None:
        if video_slots and not model.config.glances:
            raise BadInput("this model has no eyes: video_slots must be 0")
        self.device = devices.choose(device)
        devices.prepare(self.device)
        if model.words.device != self.device:
            model = copy.deepcopy(model).to(self.device)  # the caller's stays where it is
        self.model, self.record = model.eval().requires_grad_(False), record
        self.fixed, self.at_once = fixed or self.device.type != "cpu", self.device.type == "cpu"
        with torch.no_grad():
            self.weights = Weights(self.model)
        self.fingerprint = snapshots.fingerprint(self.model)
        self.vocabulary_size = len(model.words)
        shapes = Shape(model.config, 0), Shape(model.config, model.config.glances)
        self._hold(
            Pool(shapes[0], slots, device=self.device),
            Pool(shapes[1], video_slots, device=self.device) if video_slots else None,
        )
        self.seats: dict[str, Seat] = {}

    def _hold(self, audio: Pool, video: Pool | None) -> None:
        """These are the slots."""
        self.audio, self.video = audio, video
        if self.fixed:
            for pool in self.pools:
                pool.player = Player(self.weights, pool.arena, record=self.record)

    @property
    def pools(self) -> tuple[Pool, ...]:
        return (self.audio,) if self.video is None else (self.audio, self.video)

    def pool(self, seat: Seat) -> Pool:
        if not seat.opening.video:
            return self.audio
        assert self.video is not None
        return self.video

    def free(self) -> int:
        """Slots for sessions without video."""
        return len(self.audio.free)

    @torch.no_grad()
    def open(self, opening: Opening | None = None, session: str | None = None) -> str:
        """A new session; its id. Raises Overloaded, or BadInput for what cannot be."""
        opening, name = opening or Opening(), session or secrets.token_hex(8)
        if name in self.seats:
            raise BadInput(f"a session {name!r} is open already")
        if len(opening.prefix) > PREFIX_WORDS:
            raise BadInput(f"a prefix has at most {PREFIX_WORDS} words, not {len(opening.prefix)}")
        if not all(0 < word < self.vocabulary_size for word in opening.prefix):
            raise BadInput("a prefix is made of word ids of this model's vocabulary")
        if not 0 <= opening.proactivity <= 1 or not 0 < opening.threshold < 1:
            raise BadInput("proactivity and threshold are numbers between 0 and 1")
        pool = self._pool_for(opening.video)
        seat = Seat(name, pool.take(), opening)
        try:
            pool.state["proactivity"][seat.slot] = opening.proactivity
            if opening.prefix:
                self._pin(pool.state, seat.slot, opening.prefix)
            self._write_meta(pool, seat)
        except BaseException:
            pool.leave(seat.slot)
            raise
        self.seats[name] = seat
        return name

    def close(self, session: str) -> None:
        """Forget the session and everything it was. Raises NoSession."""
        seat = self._seat(session)
        del self.seats[session]
        self.pool(seat).leave(seat.slot)

    def last(self, session: str) -> int:
        """The last micro-turn that ran, -1 for none. Raises NoSession."""
        return self._seat(session).last

    def rollback(self, session: str, turn: int) -> None:
        """Take back `turn` and everything after it: `append` goes on with `turn`.

        Raises NoSession, or BadInput for what lies further back than `ROLLBACK` micro-turns or ahead.
        """
        seat = self._seat(session)
        last = seat.last
        if not 0 <= turn <= last + 1 or last - turn >= ROLLBACK:
            raise BadInput(f"cannot go back to micro-turn {turn}: the last one is {last}, {ROLLBACK} can be taken back")
        seat.last = rewind(self.pool(seat).state, seat.slot, turn)

    def known(self, append: Append) -> Chosen | None:
        """What this very micro-turn brought already, if it ran; None if it is still to run.

        Raises NoSession; BadInput for a malformed input; OutOfOrder for another input for a micro-turn that is past.
        """
        seat = self._seat(append.session)
        bins = append.bins
        if bins.dtype != np.uint8 or bins.shape != (FRAMES, CHANNELS) or append.turn < 0 or bins.max() > 15:
            raise BadInput(f"a micro-turn is uint8 ({FRAMES}, {CHANNELS}) of levels 0 to 15 and an index from 0 on")
        if not 0 <= append.event < self.vocabulary_size or not 0 <= (append.said or 0) < self.vocabulary_size:
            raise BadInput("words are ids of this model's vocabulary")
        if append.frame is not None and (not seat.opening.video or append.frame.shape != (80, 80, 3)):
            raise BadInput("frames are uint8 (80, 80, 3), in sessions that were opened with video")
        pool = self.pool(seat)
        state, place = pool.state, append.turn % pool.shape.ring
        if append.turn > seat.last:
            return None
        if int(state["stamp"][seat.slot, place]) != append.turn:
            raise OutOfOrder(f"micro-turn {append.turn} is past, and did not run or is forgotten")
        if int(state["digest"][seat.slot, place]) != append.digest():
            raise OutOfOrder(f"micro-turn {append.turn} has run with another input; roll back first")
        return self._result(seat, append.turn)

    @torch.inference_mode()
    def step(self, appends: Sequence[Append]) -> list[Chosen]:
        """Run one micro-turn of each of these different sessions, batched. `known` was None for all of them.

        Results in order of `appends`.
        """
        results: dict[str, Chosen] = {}
        groups: dict[tuple[bool, bool], list[Append]] = {}
        for append in appends:
            key = (self.seats[append.session].opening.video, append.frame is not None)
            groups.setdefault(key, []).append(append)
        for group in groups.values():
            group.sort(key=lambda a: self.seats[a.session].slot)
            for chosen in self._batch(group):
                results[chosen.session] = chosen
        return [results[append.session] for append in appends]

    def _batch(self, appends: list[Append]) -> list[Chosen]:
        seats = [self.seats[a.session] for a in appends]
        pool = self.pool(seats[0])
        if pool.player is not None:
            return self._play(pool.player, appends, seats)
        inputs = self._inputs(pool, appends, seats)
        out = step(self.weights, pool.arena, inputs)
        heard, odds = out.heard.argmax(-1), out.decision.softmax(-1)
        decision, words = self._decide(odds, seats), torch.zeros(len(seats), dtype=torch.int64)
        worded = [row for row, d in enumerate(decision.tolist()) if d in WORDED]
        if worded:
            scores = out.say(worded)
            scores[:, :2] = float("-inf")  # having decided to put a word out, it does
            words[worded] = scores.argmax(-1)
        digest = torch.tensor([a.digest() for a in appends])
        chosen = {"heard": heard, "said": words, "decision": decision, "odds": odds, "digest": digest}
        commit(pool.state, pool.shape, inputs, chosen)
        for append, seat in zip(appends, seats, strict=True):
            seat.last = append.turn
        rows = zip(appends, heard.tolist(), words.tolist(), decision.tolist(), odds.tolist(), strict=True)
        return [Chosen(a.session, a.turn, h, w, d, tuple(o)) for a, h, w, d, o in rows]

    def _play(self, player: Player, appends: list[Append], seats: list[Seat]) -> list[Chosen]:
        """As `_batch`, in the fixed shape."""
        rows = []
        for append, seat in zip(appends, seats, strict=True):
            fields: dict[str, object] = {
                "turn": append.turn,
                "bins": append.bins,
                "voiced": -1 if append.said is None else append.said,
                "event": append.event,
                "marks": append.marks,
                "threshold": seat.opening.threshold,
                "digest": append.digest(),
            }
            rows.append((seat.slot, fields if append.frame is None else fields | {"frames": append.frame}))
        taken = player.step(rows)
        results = []
        for i, (append, seat) in enumerate(zip(appends, seats, strict=True)):
            words = taken["heard"][i], taken["said"][i], taken["decision"][i]
            results.append(Chosen(append.session, append.turn, *words, tuple(taken["odds"][i])))
            seat.last = append.turn
        return results

    def _inputs(self, pool: Pool, appends: list[Append], seats: list[Seat]) -> StepInputs:
        slots = torch.tensor([seat.slot for seat in seats])
        before = pool.state["last"][slots]
        place = before.clamp(min=0) % pool.shape.ring
        heard, said = (pool.state[name][slots, place] * (before >= 0) for name in ("heard", "said"))
        for row, append in enumerate(appends):
            if append.said is not None:
                said[row] = append.said
        frames = [a.frame for a in appends if a.frame is not None]
        return StepInputs(
            slots,
            torch.tensor([a.turn for a in appends]),
            torch.from_numpy(np.stack([a.bins for a in appends])),
            heard,
            said,
            torch.tensor([a.event for a in appends]),
            torch.tensor([a.marks for a in appends], dtype=torch.bool),
            torch.from_numpy(np.stack(frames)) if frames else None,
        )

    def _decide(self, odds: Tensor, seats: list[Seat]) -> Tensor:
        return decide(odds, torch.tensor([seat.opening.threshold for seat in seats], device=odds.device))

    @torch.no_grad()
    def prefill(self, session: str, appends: Sequence[Append], heard: Sequence[int], said: Sequence[int]) -> None:
        """Live through micro-turns whose outcome is known already (a replayed session), many in one pass.

        appends: consecutive, from the next micro-turn on, without frames. heard, said: word ids chosen in each. The
        session is then bit for bit where stepping would have brought it. Raises as `known` does, and BadInput.
        """
        seat = self._seat(session)
        first = self.last(session) + 1
        if seat.opening.video or [a.turn for a in appends] != list(range(first, first + len(appends))):
            raise BadInput(f"prefill takes consecutive micro-turns from {first} on, in sessions without video")
        for append in appends:
            self.known(append)
        ring = self.audio.shape.ring
        at = 0
        while at < len(appends):
            count = min(len(appends) - at, ring - (first + at) % ring)
            part = slice(at, at + count)
            if count < ROWS or not self.at_once:
                for a, h, s in zip(appends[part], heard[part], said[part], strict=True):
                    self.step([a])
                    place = a.turn % ring
                    self.audio.state["heard"][seat.slot, place], self.audio.state["said"][seat.slot, place] = h, s
                    self.audio.state["words"][seat.slot, PREFIX_WORDS + place] = a.event or h
            else:
                self._chunk(seat, appends[part], list(heard[part]), list(said[part]))
            at += count

    def replay(self, session: str, past: Sequence[tuple[Append, Chosen]]) -> None:
        """Live again through micro-turns whose results are known, after a restore: consecutive ones at once.

        Raises as `prefill` does.
        """
        at = 0
        while at < len(past):
            end = at + 1
            while end < len(past) and past[end][0].turn == past[end - 1][0].turn + 1 and past[end][0].frame is None:
                end += 1
            appends, chosen = [a for a, _ in past[at:end]], [c for _, c in past[at:end]]
            if appends[0].frame is None and appends[0].turn == self.last(session) + 1:
                self.prefill(session, appends, [c.heard for c in chosen], [c.said for c in chosen])
            else:
                for append in appends:
                    if self.known(append) is None:
                        self.step([append])
            at = end

    def _chunk(self, seat: Seat, appends: Sequence[Append], heard: list[int], said: list[int]) -> None:
        shape, state, slot, device = self.audio.shape, self.audio.state, seat.slot, self.device
        last, count = seat.last, len(appends)
        fed = [int(state[name][slot, last % shape.ring]) if last >= 0 else 0 for name in ("heard", "said")]
        voiced = [a.said for a in appends]
        before = [w if (v := voiced[i]) is None else v for i, w in enumerate([fed[1], *said[:-1]])]
        inputs = Inputs(
            torch.from_numpy(np.stack([a.bins for a in appends]))[None].to(device),
            torch.tensor([[fed[0], *heard[:-1]]], device=device),
            torch.tensor([before], device=device),
            torch.tensor([heard], device=device),
            torch.tensor([[a.event for a in appends]], device=device),
            torch.tensor([[a.marks for a in appends]], dtype=torch.bool, device=device),
            None,
            state["proactivity"][slot][None],
        )
        row = {name: tensor[slot][None] for name, tensor in state.items()}
        start, live = last + 1, torch.ones(1, count, dtype=torch.bool, device=device)
        out, after = exact.lap(self.weights, shape, row, start, inputs, live, live.new_tensor([last >= 0]))
        for name, value in after.items():
            if name not in ("stamp", "last"):
                state[name][slot] = value[0]
        turns = torch.arange(start, start + count, device=device)
        place = turns % shape.ring
        odds = out.decision[0].softmax(-1)
        for name, words in (("heard", heard), ("said", said)):
            state[name][slot, place] = torch.tensor(words, device=device)
        state["odds"][slot, place] = odds
        state["decision"][slot, place] = self._decide(odds, [seat] * count)
        state["digest"][slot, place] = torch.tensor([a.digest() for a in appends], device=device)
        state["stamp"][slot, place] = turns
        state["last"][slot] = seat.last = start + count - 1

    def snapshot(self, session: str, extra: dict | None = None) -> bytes:
        """Everything the session is, to go on from elsewhere. extra: small JSON of the caller's. Raises NoSession."""
        seat = self._seat(session)
        meta = {"session": seat.id, "opening": asdict(seat.opening), "extra": extra or {}}
        return snapshots.pack(take(self.pool(seat).state, seat.slot), self.fingerprint, meta)

    def restore(self, data: bytes, session: str | None = None) -> tuple[str, dict]:
        """Open a session from a snapshot, under its own name or another. Returns its id and the caller's `extra`.

        Raises Overloaded, BadInput if the name is taken, SnapshotFailed for what is no snapshot of this model.
        """
        row, meta = snapshots.unpack(data, self.fingerprint)
        name = session or str(meta["session"])
        if name in self.seats:
            raise BadInput(f"a session {name!r} is open already")
        opening = Opening(**{**meta["opening"], "prefix": tuple(meta["opening"]["prefix"])})
        pool = self._pool_for(opening.video)
        seat = Seat(name, pool.take(), opening)
        try:
            put(pool.state, seat.slot, row)
            seat.last = int(row["last"])
            self._write_meta(pool, seat)
        except ValueError as error:
            pool.leave(seat.slot)
            raise snapshots.SnapshotFailed(f"this snapshot does not fit the engine: {error}") from error
        self.seats[name] = seat
        return name, meta["extra"]

    def _pool_for(self, video: bool) -> Pool:
        if video and self.video is None:
            raise Overloaded("this engine has no places with video")
        return self.video if video and self.video is not None else self.audio

    def _seat(self, session: str) -> Seat:
        seat = self.seats.get(session)
        if seat is None:
            raise NoSession(f"no session {session!r} here; open it, or restore it from its snapshot")
        return seat

    def _pin(self, state: State, slot: int, prefix: tuple[int, ...]) -> None:
        for name, value in exact.pin(self.weights, torch.tensor(prefix, device=self.device)).items():
            row = state[name][slot]
            (row[:, :PREFIX_WORDS] if name[0] in "kv" else row[:PREFIX_WORDS]).copy_(value)

    def _result(self, seat: Seat, turn: int) -> Chosen:
        pool = self.pool(seat)
        state, place = pool.state, turn % pool.shape.ring
        heard, said, decision = (int(state[name][seat.slot, place]) for name in ("heard", "said", "decision"))
        return Chosen(seat.id, turn, heard, said, decision, tuple(state["odds"][seat.slot, place].tolist()))

    def _write_meta(self, pool: Pool, seat: Seat) -> None:
        text = json.dumps({"session": seat.id, "opening": asdict(seat.opening)}).encode()
        if len(text) > META_BYTES:
            raise BadInput("that session name is too long")
        pool.state["meta"][seat.slot, : len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        pool.state["meta"][seat.slot, len(text) :] = 0
