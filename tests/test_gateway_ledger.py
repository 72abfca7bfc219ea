"""The ledger: prices, write-ahead slots, recovery after kill -9, spend, bills. Real files, databases and processes."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from interplay.core.types import BadInput, InterplayError
from interplay.gateway import ledger_cli
from interplay.gateway.contract import PICO, Caller, Usage
from interplay.gateway.ledger import Book, LedgerFull, truth, truth_served
from interplay.gateway.ledger.reconcile import BillLine, reconcile
from interplay.gateway.ledger.spend import since_time, spend
from interplay.gateway.prices import PriceBook, newest_change, pico, usd, values_of

ADA = Caller("kiosk", "ada", "s1", "k1")


async def one_call(
    book: Book, usage: Usage, caller: Caller = ADA, *, model: str = "gpt-5-mini", status: str = "ok"
) -> str:
    entry = await book.begin(caller, route="voice", provider="openai", model=model, kind="chat")
    entry.usage(usage)
    await entry.end(status)  # type: ignore[arg-type]
    return entry.id


def test_compiled_prices_are_those_of_genai_prices() -> None:
    from genai_prices import Usage as Priced
    from genai_prices.data import providers

    rng, now, compared = random.Random(7), datetime.now(UTC), 0
    book = PriceBook()
    for owner in providers:
        if owner.id not in ("openai", "anthropic", "google", "groq", "x-ai", "deepseek"):
            continue
        for info in owner.models[:40]:
            found = book.price(owner.id, info.id)
            used = Usage(input_tokens=rng.choice((500, 250_001, 900_000)), output_tokens=rng.randrange(5000))
            try:
                want = info.get_prices(now).calc_price(
                    Priced(input_tokens=used.input_tokens, output_tokens=used.output_tokens, cache_read_tokens=0,
                           cache_write_tokens=0, input_audio_tokens=0, output_audio_tokens=0, output_reasoning_tokens=0,
                           input_image_tokens=0, output_image_tokens=0, cache_audio_read_tokens=0, audio_seconds=0,
                           input_audio_seconds=0, output_audio_seconds=0)
                )["total_price"]  # fmt: skip
            except ValueError:
                continue
            if owner.find_model(info.id) is info:
                compared += 1
                assert abs(found.cost(values_of(used)) - Fraction(want) * PICO) <= 1, (owner.id, info.id)
    assert compared > 100
    assert newest_change() is not None


def test_prices_of_sessions_audio_and_own_tables() -> None:
    book = PriceBook({"shop/tiny": {"input_tokens": 1, "cached_tokens": "0.1", "session_ms": 3.6}})
    assert usd(book.price("openai", "gpt-live-1").cost(values_of(Usage(session_ms=60_000)))) == usd(pico("0.05"))
    live = book.price("openai", "gpt-live-1")
    assert live.cost(values_of(Usage(session_ms=1000, audio_in_ms=1000))) == live.cost(
        values_of(Usage(session_ms=1000))
    )
    own = book.price("shop", "tiny")
    assert own.cost(values_of(Usage(input_tokens=10, cached_tokens=4))) == pico("0.0000064")
    assert own.cost(values_of(Usage(session_ms=1000))) == pico("0.001")
    assert not book.price("shop", "other").known
    assert book.price("ollama", "anything").known
    with pytest.raises(BadInput, match="unknown unit"):
        PriceBook({"a/b": {"words": 1}})


async def test_spend_is_counted_while_it_happens_and_afterwards(tmp_path: Path) -> None:
    book = await Book.open(str(tmp_path / "l.sqlite"))
    try:
        assert await book.spent("key_id", "k1", 0) == 0
        entry = await book.begin(ADA, route="voice", provider="openai", model="gpt-5-mini", kind="chat")
        entry.usage(Usage(input_tokens=1_000_000))
        assert await book.spent("key_id", "k1", 0) == pico("0.25")
        assert await book.spent("agent", "kiosk", 0) == pico("0.25")
        assert await book.spent("all", "", 0) == pico("0.25")
        assert await book.spent("key_id", "other", 0) == 0
        entry.reported(Usage(input_tokens=2_000_000))  # the provider counted twice as much: its word counts
        assert await entry.end() == pico("0.5")
        assert await entry.end("error") == pico("0.5")
        await book.flush()
        assert await book.spent("key_id", "k1", 0) == pico("0.5")
        assert book.slots.used == 0
        rows = await book.writer.ask(lambda d: d.query("SELECT cost_pico, counted_pico, status FROM entries"))
        assert rows == [(pico("0.5"), pico("0.25"), "ok")]
        text = book.metrics.text().decode()
        assert 'interplay_gateway_spend_usd_total{agent="kiosk"' in text and "ada" not in text and "k1" not in text
    finally:
        await book.close()
    assert not list((tmp_path / "l.sqlite.slots").iterdir())


async def test_two_processes_worth_of_books_share_a_ledger(tmp_path: Path) -> None:
    first, second = [await Book.open(str(tmp_path / "l.sqlite")) for _ in range(2)]
    try:
        assert await second.spent("agent", "kiosk", 0) == 0
        await one_call(first, Usage(input_tokens=1_000_000))
        await first.flush()
        await second.totals.refresh()
        assert await second.spent("agent", "kiosk", 0) == pico("0.25")
    finally:
        await first.close()
        await second.close()


KILLED = """
import asyncio, os, signal, sys
from interplay.gateway.contract import Caller, Usage
from interplay.gateway.ledger import Book

async def main():
    book = await Book.open(sys.argv[1])
    ended = await book.begin(Caller("kiosk"), route="r", provider="openai", model="gpt-5-mini", kind="chat")
    cut = await book.begin(Caller("kiosk"), route="r", provider="openai", model="gpt-5-mini", kind="realtime")
    await book.flush()
    ended.usage(Usage(input_tokens=1_000_000))
    await ended.end()
    for _ in range(7):
        cut.usage(Usage(output_tokens=100_000), provider_id="resp_7", estimated=True)
    print("now", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)  # nothing of this second was handed to the database yet

asyncio.run(main())
"""


async def test_what_a_killed_process_spent_is_recovered_once(tmp_path: Path) -> None:
    url = str(tmp_path / "l.sqlite")
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, url], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL and done.stdout == "now\n", done.stderr
    for recovered in (2, 0):  # the second start finds nothing left to do
        book = await Book.open(url)
        assert book.recovered <= recovered
        rows = await book.writer.ask(
            lambda d: d.query(
                "SELECT kind, status, cost_pico, recovered, estimated, provider_id FROM entries ORDER BY kind"
            )
        )
        await book.close()
        assert [row[:3] for row in rows] == [("chat", "ok", pico("0.25")), ("realtime", "error", pico("1.4"))]
        assert rows[1][3:] == (1, 1, "resp_7")


async def test_a_torn_store_leaves_the_number_before_it(tmp_path: Path) -> None:
    from interplay.gateway.ledger import slots as module

    slots = module.Slots(tmp_path)
    slot = slots.take({"id": "e"})
    units = [0] * len(values_of(Usage()))
    slots.put(slot, units, 5, 5, 0)
    slots.put(slot, units, 6, 6, 0)
    view, at = slots._where(slot)
    newest = at + module._AT_COPIES + (slots._sequence[slot] & 1) * module._COPY
    view[newest + 3] ^= 0xFF  # the process died in the middle of writing the newest copy
    raw = view[:]
    assert [found.cost_pico for found in module._read(raw)] == [5]


async def test_nothing_is_spent_that_cannot_be_recorded(tmp_path: Path) -> None:
    book = await Book.open(str(tmp_path / "l.sqlite"))
    book.slots.max_slots = 512
    try:
        entries = [await book.begin(ADA, route="", provider="p", model="m", kind="chat") for _ in range(512)]
        with pytest.raises(LedgerFull) as denied:
            await book.begin(ADA, route="", provider="p", model="m", kind="chat")
        assert denied.value.status == 503
        await entries[0].end()
        await book.flush()
        await book.begin(ADA, route="", provider="p", model="m", kind="chat")
    finally:
        await book.close()


async def test_a_locked_database_delays_rows_and_loses_none(tmp_path: Path) -> None:
    url = str(tmp_path / "l.sqlite")
    book = await Book.open(url)
    book.writer._database._connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[union-attr]
    other = sqlite3.connect(url, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await one_call(book, Usage(input_tokens=1_000_000))
    while not book.writer.error:
        await asyncio.sleep(0.02)
    assert book.slots.used == 1 and url in book.writer.error
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(30):
        while book.slots.used:
            await asyncio.sleep(0.05)
    assert await book.spent("all", "", 0) == pico("0.25")
    await book.close()


async def test_bills_replace_what_we_counted(tmp_path: Path) -> None:
    book = await Book.open(str(tmp_path / "l.sqlite"))
    try:
        ids = [await one_call(book, Usage(input_tokens=1_000_000)) for _ in range(3)]
        bill = [BillLine(ids[0], pico("0.25")), BillLine(ids[1], pico("0.30")), BillLine("nobody", pico("0.01"))]
        done = await book.writer.ask(lambda d: reconcile(d, "openai", 0, 1e12, bill))
        assert (done.matched, done.differing, done.unknown, done.unbilled) == (2, 1, 1, 1)
        assert await book.spent("all", "", 0) == pico("0.80")
    finally:
        await book.close()


async def test_a_guess_that_no_bill_knows_was_never_spent(tmp_path: Path) -> None:
    book = await Book.open(str(tmp_path / "l.sqlite"))
    try:
        for status, told in (("cancelled", False), ("error", False), ("cancelled", True), ("ok", False)):
            entry = await book.begin(ADA, route="voice", provider="openai", model="gpt-5-mini", kind="chat")
            entry.usage(Usage(input_tokens=1_000_000), estimated=True)
            if told:
                entry.reported(Usage(input_tokens=1_000_000))
            await entry.end(status)  # type: ignore[arg-type]
        done = await book.writer.ask(lambda d: reconcile(d, "openai", 0, 1e12, []))
        assert done.unbilled == 4
        assert await book.spent("all", "", 0) == pico("0.50")  # what the provider reported, and what ended well
    finally:
        await book.close()


async def test_the_ledger_against_the_truth(tmp_path: Path) -> None:
    found = await truth.measure(60, seed=3, every=60, folder=tmp_path)
    check_truth(found)


@pytest.mark.slow
async def test_the_ledger_against_the_truth_over_ten_thousand_calls(tmp_path: Path) -> None:
    found = await truth.measure(10_000, seed=4, folder=tmp_path)
    check_truth(found)


def test_a_record_that_a_kill_cut_off_costs_no_other_one(tmp_path: Path) -> None:
    log = tmp_path / "delivered.jsonl"
    log.write_text('["a", 1, {"output_tokens": 2}]\n["a", 1, {"output_to')
    file = truth._reopened(log)
    os.write(file, b'["a", 1, {"output_tokens": 5}]\n')
    os.close(file)
    assert truth._served(log) == {"a": (1, Usage(output_tokens=7))}


async def test_the_whole_gateway_against_the_truth(tmp_path: Path) -> None:
    check_served(await truth_served.measure(60, seed=1, every=150, folder=tmp_path))


@pytest.mark.slow
async def test_the_whole_gateway_against_the_truth_over_ten_thousand_calls(tmp_path: Path) -> None:
    check_served(await truth_served.measure(10_000, seed=2, folder=tmp_path))


def check_served(found: dict[str, float]) -> None:
    assert found["kills"] >= 1 and found["exact"] > 0 and found["whole"] > 0
    assert found["missing"] == found["inexact"] == found["wrong_text"] == 0
    assert found["ledger_error_cents"] == 0


def check_truth(found: dict[str, float]) -> None:
    assert found["kills"] >= 1 and found["served_usd"] > 0
    assert found["missing_calls"] == 0 and found["doubled_calls"] == 0
    assert found["wrong_whole_calls"] == 0
    assert found["ledger_error_cents"] == 0


def cli(*arguments: str) -> tuple[int, str]:
    app = Typer()
    ledger_cli.mount(app)
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, InterplayError):
        return 2, str(done.exception)
    return done.exit_code, done.output


def test_spend_as_table_csv_and_plot(tmp_path: Path) -> None:
    url = str(tmp_path / "l.sqlite")

    async def fill() -> None:
        book = await Book.open(url)
        for agent, tokens in (("kiosk", 3_000_000), ("=cmd()", 1_000_000)):
            await one_call(book, Usage(input_tokens=tokens, tool_calls=2), Caller(agent, "ada"))
        await book.close()

    asyncio.run(fill())
    code, text = cli("spend", "--by", "agent", "--since", "7d", "--ledger", url, "--csv", str(tmp_path / "o.csv"),
                     "--plot", str(tmp_path / "o.png"))  # fmt: skip
    assert code == 0 and "0.750000" in text and "total $1.000000" in text and "genai-prices" in text
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert [(row["agent"], float(row["usd"])) for row in rows] == [("kiosk", 0.75), ("'=cmd()", 0.25)]
    assert (tmp_path / "o.png").read_bytes()[:4] == b"\x89PNG"
    for by in ("user", "day", "model", "route"):
        assert cli("spend", "--by", by, "--ledger", url)[0] == 0
    assert cli("spend", "--by", "colour", "--ledger", url)[0] == 2
    assert cli("spend", "--since", "yesterday", "--ledger", url)[0] == 2
    assert cli("spend", "--ledger", str(tmp_path / "none.sqlite"))[0] == 2
    assert not (tmp_path / "none.sqlite").exists()


def test_since() -> None:
    assert since_time("90m", 10_000) == 10_000 - 5400
    assert since_time("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    with pytest.raises(BadInput):
        since_time("soon")


@pytest.fixture
def postgres(tmp_path: Path):
    """A PostgreSQL server of our own, on loopback."""
    pytest.importorskip("psycopg")
    initdb, server = shutil.which("initdb"), shutil.which("postgres")
    if not initdb or not server:
        pytest.skip("no PostgreSQL server is installed")
    if os.geteuid() == 0:
        pytest.skip("PostgreSQL does not run as root")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path / "pg"
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "interplay"], check=True, capture_output=True)
    process = subprocess.Popen(
        [server, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(tmp_path)], stderr=subprocess.DEVNULL
    )
    yield f"postgresql://interplay@127.0.0.1:{port}/postgres"
    process.terminate()
    process.wait()


async def test_the_ledger_in_postgresql(postgres: str, tmp_path: Path) -> None:
    book = None
    for _ in range(100):
        with contextlib.suppress(InterplayError):
            book = await Book.open(postgres, folder=tmp_path / "slots")
            break
        await asyncio.sleep(0.1)
    assert book is not None
    await one_call(book, Usage(input_tokens=1_000_000))
    await book.flush()
    assert await book.spent("all", "", 0) == pico("0.25")
    lines = await book.writer.ask(lambda d: spend(d, "day", 0))
    assert lines[0].cost_pico == pico("0.25")
    await book.close()
