"""A pool's step in one fixed shape: its input in one piece of memory, and on CUDA recorded once as a graph.

    fill the input of all slots -> one copy there -> play -> one copy back -> wait once

On a CPU the same function runs as it is, on the same memory. On CUDA it runs a few times to warm up, is recorded (one
graph for a step with frames, one without) and from then on replayed: one launch for all its kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from interplay.engine.arithmetic import Weights
from interplay.engine.fixed import Given, Spec, Taken, fixed_step, given_spec, taken_spec
from interplay.engine.step import Arena

WARM_UPS = 3  # libraries choose and set up what they use in the first calls, which must not be recorded
ALIGNED = 64

log = logging.getLogger("interplay.engine")


class Buffer:
    """Tensors (slots, ...) that lie in one piece of memory, on the host and on the device (on a CPU the same).

    here: numpy views of the host's, by name. there: the device's. ends: name -> bytes up to the end of that tensor.
    """

    def __init__(self, spec: Spec, slots: int, device: torch.device) -> None:
        places, at = {}, 0
        self.ends: dict[str, int] = {}
        for name, (size, dtype) in spec.items():
            size = (slots, *size)
            length = torch.Size(size).numel() * dtype.itemsize
            places[name] = (at, length, dtype, size)
            at += -(-length // ALIGNED) * ALIGNED
            self.ends[name] = at
        far = device.type != "cpu"
        self.host = torch.zeros(at, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.device = torch.zeros(at, dtype=torch.uint8, device=device) if far else self.host

        def views(memory: Tensor) -> dict[str, Tensor]:
            return {n: memory[a : a + length].view(d).view(s) for n, (a, length, d, s) in places.items()}

        self.here: dict[str, np.ndarray] = {name: view.numpy() for name, view in views(self.host).items()}
        self.there = views(self.device)

    def send(self, length: int) -> None:
        """The first `length` bytes to the device; does not wait."""
        if self.device is not self.host:
            self.device[:length].copy_(self.host[:length], non_blocking=True)

    def fetch(self) -> None:
        """Everything from the device; waits for what it is computing."""
        if self.device is not self.host:
            self.host.copy_(self.device, non_blocking=True)
            torch.cuda.current_stream(self.device.device).synchronize()


class Player:
    """Runs the steps of one pool. Not thread-safe, as its engine.

    record: whether to use CUDA graphs, on CUDA. problem: why there are none although they were asked for, or "".
    """

    def __init__(self, weights: Weights, arena: Arena, *, record: bool = True) -> None:
        self.weights, self.arena = weights, arena
        self.where = arena.slots.device
        self.record, self.problem = record and self.where.type == "cuda", ""
        self.given = Buffer(given_spec(arena.shape.glances), len(arena.slots), self.where)
        self.taken = Buffer(taken_spec(), len(arena.slots), self.where)
        self.graphs: dict[bool, torch.cuda.CUDAGraph] = {}
        if self.record:
            self._record()

    def step(self, rows: Sequence[tuple[int, dict[str, object]]]) -> dict[str, list]:
        """Run one micro-turn of some slots. rows: (slot, the fields of `Given` without `due`), `frames` in all of them
        or in none. Returns the fields of `Taken` as lists, one entry per row."""
        here, seen = self.given.here, "frames" in rows[0][1]
        used = self.given.ends["frames" if seen else "digest"]
        self.given.host[:used].zero_()  # of a session that has left nothing stays, not even what is not looked at
        for slot, fields in rows:
            here["due"][slot] = True
            for name, value in fields.items():
                here[name][slot] = value
        self._run(seen, used)
        slots = [slot for slot, _ in rows]
        return {name: values[slots].tolist() for name, values in self.taken.here.items()}

    @torch.inference_mode()
    def _run(self, seen: bool, used: int) -> None:
        if self.where.type == "cpu":
            self.play(seen)
            return
        with torch.cuda.device(self.where):
            self.given.send(used)
            if self.record:
                self.graphs[seen].replay()
            else:
                self.play(seen)
            self.taken.fetch()

    def play(self, seen: bool) -> None:
        """The step itself, from the input's place on the device to the output's."""
        there = self.given.there
        fields = {name: there[name] for name in Given._fields if name != "frames"}
        taken = fixed_step(self.weights, self.arena, Given(**fields, frames=there["frames"] if seen else None))
        for name, value in zip(Taken._fields, taken, strict=True):
            self.taken.there[name].copy_(value)

    @torch.inference_mode()
    def _record(self) -> None:
        """Warm up and record, with nobody due: nothing changes. Where it fails, steps run unrecorded."""
        ways = [False, True] if self.arena.shape.glances else [False]
        self.given.device.zero_()
        with torch.cuda.device(self.where):
            aside = torch.cuda.Stream(self.where)
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for seen in ways * WARM_UPS:
                    self.play(seen)
            torch.cuda.current_stream().wait_stream(aside)
            torch.cuda.synchronize()
            try:
                for seen in ways:
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                        self.play(seen)
                    self.graphs[seen] = graph
            except RuntimeError as error:
                self.graphs.clear()
                self.record, self.problem = False, str(error).splitlines()[0]
                log.warning("a step cannot be recorded as a CUDA graph, and runs unrecorded: %s", self.problem)
