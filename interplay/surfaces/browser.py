"""The surface of a web page: live sound in, cells out, bounded on both sides whatever the page does.

It knows nothing of sockets. The server pushes what came in (`hear`, `type`), and takes what should go out (`next`);
the session reads and writes it once per micro-turn and never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from interplay.core.audio import Resampler, SliceBuffer, level_db
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, Event, InterplayError
from interplay.session.surface import SurfaceClosed, SurfaceIn, TurnView
from interplay.surfaces.camera import Camera

RESERVE = INPUT_RATE // 25  # 40 ms held back: network jitter below this costs no sample
TIGHTEN = INPUT_RATE // 10  # this much waiting for 3 s on end is needless delay: drop it in the next quiet slice
TIGHTEN_TURNS = 15
TIGHTEN_LOUD = 3 * INPUT_RATE // 10  # ... and this much even while someone speaks
QUIET_DB = -50.0
WINDOW = 10  # cells on their way to the page and not acknowledged: 2 s
WAITING = 5  # cells waiting for that window: 1 s
GAP_WORDS = 2_000
PARTS = 5  # of a slice, in the picture: 40 ms each
MAX_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """One micro-turn as the page shows and plays it.

    missing_s: seconds of the person's slice that never came. late_s: seconds behind the clock when it was done.
    user_db, agent_db: loudness of each 40 ms of the two slices, dBFS.
    """

    view: TurnView
    missing_s: float
    late_s: float
    user_db: tuple[int, ...]
    agent_db: tuple[int, ...]


@dataclass(slots=True)
class Gap:
    """Micro-turns whose sound the page will never get: it is in the past. Their words it gets all the same."""

    first: int
    last: int
    heard: list[tuple[float, str]] = field(default_factory=list)
    said: list[tuple[str, float]] = field(default_factory=list)

    def add(self, view: TurnView) -> None:
        self.last = view.turn
        if view.heard:
            self.heard.append((view.elapsed_s, view.heard))
        self.said += absolute(view)
        del self.heard[:-GAP_WORDS], self.said[:-GAP_WORDS]


def absolute(view: TurnView) -> list[tuple[str, float]]:
    """(word, session seconds at which it becomes audible) of a micro-turn."""
    return [(word, round(view.elapsed_s + offset, 4)) for word, offset in view.said]


def envelope(audio: np.ndarray) -> tuple[int, ...]:
    """Loudness of a slice in PARTS parts, whole dBFS; of nothing it is empty."""
    return tuple(round(level_db(part)) for part in np.array_split(audio, PARTS)) if len(audio) else ()


class BrowserSurface:
    """One page. rate: of the samples that `hear` gets. now: session seconds, to say how late a cell is."""

    name = "browser"

    def __init__(self, rate: int, now: Callable[[], float]) -> None:
        self._resampler = Resampler(rate, INPUT_RATE)
        self._waiting_in = SliceBuffer()
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._now = now
        self._started = False
        self._camera = Camera()
        self._user_db: tuple[int, ...] = ()
        self._slack: deque[int] = deque(maxlen=TIGHTEN_TURNS)
        self._waiting_out: deque[Cell] = deque()
        self._unacknowledged: deque[int] = deque()
        self._gap: Gap | None = None
        self._wake = asyncio.Event()
        self.gone = False
        self.closed = False
        self.error: InterplayError | None = None
        self.tightened = 0  # samples dropped to stay close to now

    @property
    def dropped(self) -> int:
        """Input samples at 16 kHz that were thrown away because the page sent more than real time has room for."""
        return self._waiting_in.dropped

    # from the page

    def hear(self, samples: np.ndarray) -> None:
        """float32 (n,) mono at the page's rate."""
        self._waiting_in.push(self._resampler.feed(samples))

    def see(self, jpeg: bytes) -> None:
        """A picture of the page's camera. Raises BadInput if it is none."""
        self._camera.show(jpeg)

    def type(self, text: str) -> None:
        self._events.append(Event("text", {"text": text}))

    def acknowledge(self, turn: int) -> None:
        """The page has taken every cell up to `turn`."""
        while self._unacknowledged and self._unacknowledged[0] <= turn:
            self._unacknowledged.popleft()
        self._wake.set()

    def leave(self) -> None:
        """The page is gone: the session ends at its next micro-turn."""
        self.gone = True
        self._wake.set()

    # for the session

    async def read(self, turn: int) -> SurfaceIn:
        if self.gone:
            raise SurfaceClosed("page closed")
        events = tuple(self._events)
        self._events.clear()
        audio = self._waiting_in.take(INPUT_SAMPLES) if self._started else self._first_slice()
        self._slack.append(len(self._waiting_in))
        self._tighten(audio)
        self._user_db = envelope(audio)
        return SurfaceIn(audio, self._camera.frame(), events)

    def _first_slice(self) -> np.ndarray:
        """Sound from before the session is not part of it; the newest 200 ms are, less the reserve."""
        self._started = True
        size = len(self._waiting_in)
        self._waiting_in.take(max(0, size - INPUT_SAMPLES - RESERVE))
        audio = self._waiting_in.take(max(0, len(self._waiting_in) - RESERVE))
        return np.pad(audio, (INPUT_SAMPLES - len(audio), 0))

    def _tighten(self, audio: np.ndarray) -> None:
        """Sound that waits is delay that the person feels: give it up where nobody speaks."""
        if len(self._slack) < TIGHTEN_TURNS:
            return
        slack = min(self._slack)
        if slack > TIGHTEN_LOUD or (slack > TIGHTEN and level_db(audio) < QUIET_DB):
            excess = slack - RESERVE
            self._waiting_in.take(excess)
            self.tightened += excess
            self._slack.clear()

    async def write(self, view: TurnView) -> None:
        if self.gone:
            raise SurfaceClosed("page closed")
        missing = view.missing / INPUT_RATE
        late = max(0.0, self._now() - view.elapsed_s)
        cell = Cell(view, missing, late, self._user_db, envelope(view.audio))
        self._waiting_out.append(cell)
        while len(self._waiting_out) > WAITING:
            self._skip()
        self._wake.set()

    def _skip(self) -> None:
        """The oldest waiting cell becomes part of the gap: its sound is over, its words stay."""
        view = self._waiting_out.popleft().view
        self._gap = self._gap or Gap(view.turn, view.turn)
        self._gap.add(view)

    async def close(self, error: InterplayError | None) -> None:
        self.closed, self.error = True, error
        self._wake.set()

    # for the page

    async def next(self) -> Cell | Gap | None:
        """What goes to the page now; None when the session is over. Waits while the page has not taken the last 2 s."""
        while not self.gone:
            if self._waiting_out and len(self._unacknowledged) < WINDOW:
                return self._take()
            if self.closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return None

    def _take(self) -> Cell | Gap:
        if self._gap is not None:
            while len(self._waiting_out) > 1:  # the page is back: now, not a second ago
                self._skip()
            gap, self._gap = self._gap, None
            return gap
        cell = self._waiting_out.popleft()
        self._unacknowledged.append(cell.view.turn)
        return cell
