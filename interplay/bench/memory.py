"""How long a session waits for its agent's memory: the prefix of a relationship that has 10,000 sessions behind it.

    python -m interplay.bench.memory [--sessions 10000] [--loads 1000] [--store postgresql://...] [--json OUT.json]

The sessions are written through `Memory.close_session`, as real ones are: 12 lines each, with facts, promises and
reminders, a fifth of them left open. Each load is what a session does before its first micro-turn: find the
relationship, read the core items, make the prefix and the background's page. `cold`: the first load of a new process's
store, opening included. One at a time: `prefix_p99_ms` is what one session waits, `prefix_cpu_ms` what of it is work
of this process rather than waiting for its turn on the machine. `interplay bench background` has the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from interplay.core.histogram import Histogram
from interplay.core.timeline import Record

THINGS = ("train", "dentist", "rent", "garden", "piano", "letter", "recipe", "ticket", "passport", "bicycle", "kettle")
BATCH = 250  # sessions between two lines of progress


def session(n: int, started: datetime) -> list[Record]:
    """The timeline of the n-th session: a dozen lines, words at the pace of speech."""
    thing = f"{THINGS[n % len(THINGS)]} {n}"
    said = [
        ("user", f"hello i like {thing}"),
        ("agent", "hello nice to hear you again"),
        ("user", f"remind me in {n % 50 + 2} days to see about the {thing}"),
        ("agent", "of course"),
        ("user", f"what about the {thing} we talked of"),
        ("agent", f"i will look up the {thing}" if n % 5 == 0 else f"the {thing} is fine"),
    ] + [("user" if k % 2 else "agent", f"and then there was number {n} of {k} and the {thing}") for k in range(6)]
    records: list[Record] = [{"t": 0.0, "turn": 0, "lane": "system", "kind": "opened", "started": started.isoformat()}]
    for line, (who, text) in enumerate(said):
        kind = "heard" if who == "user" else "said"
        for k, word in enumerate(text.split()):
            t = 1 + 8.0 * line + 0.3 * k
            records.append({"t": t, "turn": int(t * 5), "lane": who, "kind": kind, "text": word})
    return records


async def measure(
    url: str, sessions: int, loads: int, progress: Callable[[int], None] = lambda n: None
) -> dict[str, Any]:
    """Fill one relationship, then load it again and again. Times in ms. progress: is told how many are written."""
    from interplay.agents.memory import Memory
    from interplay.agents.spec import AgentSpec, Instructions
    from interplay.agents.store import AgentStore

    began = perf_counter()
    store = await AgentStore.open(url)
    await store.create(AgentSpec("bench", instructions=Instructions("be kind and brief")))
    memory = Memory(store, await store.relationship("bench", "user"))
    first = datetime.now(UTC) - timedelta(days=sessions / 10)
    for n in range(sessions):
        await memory.close_session(session(n, first + timedelta(days=n / 10)))
        if n % BATCH == BATCH - 1:
            progress(n + 1)
    filled = perf_counter() - began
    noted = len(await memory.list(limit=1_000_000))
    await store.close()

    began = perf_counter()
    store = await AgentStore.open(url)
    words = len(await Memory(store, await store.relationship("bench", "user")).prefix())
    cold = perf_counter() - began
    prefix, whole, search = Histogram(), Histogram(), Histogram()
    took: list[float] = []
    working, alone = process_time(), 0.0
    for n in range(loads):
        began, busy = perf_counter(), process_time()
        memory = Memory(store, await store.relationship("bench", "user"))
        await memory.prefix()
        took.append(perf_counter() - began)
        alone += process_time() - busy
        prefix.add(took[-1])
        await memory.background_context()
        whole.add(perf_counter() - began)
        if n % 10 == 0:
            began = perf_counter()
            await memory.search(f"what about the {THINGS[n % len(THINGS)]} {n}")
            search.add(perf_counter() - began)
    cpu = process_time() - working
    await store.close()
    return {
        "sessions": sessions,
        "open_items": noted,
        "prefix_words": words,
        "fill_s": round(filled, 1),
        "cpu_ms_per_load": round(1e3 * cpu / loads, 3),
        "prefix_cpu_ms": round(1e3 * alone / loads, 3),
        "prefix_p99_ms": round(1e3 * float(np.percentile(took, 99)), 3),
        "cold_ms": round(cold * 1e3, 2),
        "prefix": prefix.ms(),
        "prefix_and_background": whole.ms(),
        "search": search.ms(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description="Load times of an agent's memory.")
    options.add_argument("--sessions", type=int, default=10_000)
    options.add_argument("--loads", type=int, default=1_000)
    options.add_argument("--store", help="an empty store; default: a SQLite file that is deleted afterwards")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        def progress(n: int) -> None:
            print(f"{n} sessions written", file=sys.stderr, flush=True)

        found = asyncio.run(measure(chosen.store or f"{folder}/agents.db", chosen.sessions, chosen.loads, progress))
    text = json.dumps(found, indent=2)
    print(text)
    if chosen.json is not None:
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
