"""The config file with its lines, the catalog, and the order of targets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interplay.core.types import BadInput, Missing
from interplay.gateway.catalog import Catalog
from interplay.gateway.config import Filter, Route, Target, default_config, load
from interplay.gateway.contract import Usage
from interplay.gateway.faults import Fault
from interplay.gateway.prices import PriceBook
from interplay.gateway.providers import Providers
from interplay.gateway.routes import Board, fits
from interplay.gateway.toml_lines import Located

GOOD = """
[providers.house]            # 2
base_url = "http://127.0.0.1:9/v1"
keys = ["HOUSE_KEY"]
tags = ["inside"]

[routes.cheap]               # 7
strategy = "cost"
deadline_s = 5
targets = [
  "openai/gpt-4o-mini",
  {model = "house/tiny", weight = 3, region = "eu"},
]

[routes.cheap.filter]
regions = ["eu"]
"""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    found = Catalog()
    assert found.models
    return found


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    config = load(written(tmp_path / "g.toml", GOOD))
    route = config.routes["cheap"]
    assert [target.id for target in route.targets] == ["openai/gpt-4o-mini", "house/tiny"]
    assert route.targets[1].weight == 3 and route.targets[1].tags == ("inside",)
    assert route.times.deadline == 5 and route.filter.regions == ("eu",)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('strategy = "cost"', 'strategy = "costs"', 8, "did you mean cost?"),
        ("deadline_s = 5", 'deadline_s = "5"', 9, "must be a number"),
        ("deadline_s = 5", "dead_line_s = 5", 9, "did you mean deadline_s"),
        ('"openai/gpt-4o-mini",', '"opnai/gpt-4o-mini",', 10, "did you mean openai/gpt-4o-mini"),
        ('keys = ["HOUSE_KEY"]', 'api_key = "sk-123"', 4, "secrets do not belong in this file"),
        ('keys = ["HOUSE_KEY"]', 'keys = ["sk-123"]', 4, "names of environment variables"),
        ("http://127.0.0.1:9/v1", "http://me:pw@127.0.0.1:9/v1", 3, "without user and password"),
        ("http://127.0.0.1:9/v1", "file:///etc/passwd", 3, "http or https"),
        ('regions = ["eu"]', "regions = 3", 16, "list of strings"),
        ('tags = ["inside"]', "tags = [", 7, ""),
    ],
)
def test_a_mistake_is_shown_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    path = written(tmp_path / "g.toml", GOOD.replace(old, new))
    with pytest.raises(BadInput) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: "), str(caught.value)
    assert words in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_lines_of_deep_and_long_values() -> None:
    source = Located(
        'a = """\n[no.table]\nb = 1\n"""\n[[x]]\ny = 1\n[[x]]\n"odd key".z = 2\nlist = [\n  1, # ]\n  2,\n]\nend = 3\n',
        "f",
    )
    assert source.line(("x", 0, "y")) == 6
    assert source.line(("x", 1, "odd key", "z")) == 8
    assert source.line(("x", 1, "end")) == 13
    assert source.line(("x", 1, "list", 1)) == 9


def test_at_least_fifty_providers_each_with_a_way_in_and_a_source() -> None:
    rows = list(Providers())
    assert len({row.name for row in rows}) >= 50
    for row in rows:
        assert row.source and (row.base_url or row.library or "realtime" in row.supports), row.name
        assert not row.base_url or row.base_url.startswith(("https://", "http://127.0.0.1", "${")), row.name


def test_an_address_or_a_key_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    providers = Providers()
    with pytest.raises(Missing, match="AZURE_OPENAI_ENDPOINT"):
        providers.get("azure").url()
    with pytest.raises(Missing, match="GROQ_API_KEY"):
        providers.get("groq").key()
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/")
    assert providers.get("azure").url() == "https://me.openai.azure.com/openai/v1"
    assert providers.get("ollama").key() == ""


def test_every_provider_with_prices_is_priced_by_its_own_name(catalog: Catalog) -> None:
    book = PriceBook()
    priced = {row.name for row in Providers() if row.prices}
    found = {m.provider for m in catalog.models.values() if m.output_usd and book.price(m.provider, m.name).known}
    assert len(found) >= 25 and found <= priced
    for name, model in (("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"), ("google-native", "gemini-2.5-flash")):
        assert book.price(name, model).known, name
    assert book.price("lm-studio", "anything").cost([1] * 13) == 0


def test_models_by_name(catalog: Catalog) -> None:
    mini = catalog.find("gpt-4o-mini")
    assert mini.id == "openai/gpt-4o-mini" and mini.context == 128_000 and "image" in mini.inputs
    assert mini.input_usd and mini.output_usd and mini.output_usd > mini.input_usd
    assert catalog.find("openai:gpt-realtime").realtime
    assert catalog.find("groq/brand-new").name == "brand-new"
    with pytest.raises(BadInput, match="openai/gpt-4o-mini"):
        catalog.find("gpt-4o-minni")
    with pytest.raises(BadInput, match="did you mean anthropic"):
        catalog.find("antropic/claude")


def test_filters_say_why() -> None:
    target = Target("p", "m", region="us", tags=("a",), data_policy="trains", inputs=("text",), context=1000)
    assert fits(target, Filter(), (), 500) == ""
    assert "tag 'b'" in fits(target, Filter(tags=("b",)), (), 0)
    assert "region 'us'" in fits(target, Filter(regions=("eu",)), (), 0)
    assert "data policy" in fits(target, Filter(data_policy=("keeps-nothing",)), (), 0)
    assert "takes no image" in fits(target, Filter(), ("image",), 0)
    assert "takes no audio" in fits(target, Filter(inputs=("audio",)), (), 0)
    assert "context of 1000" in fits(target, Filter(), (), 5000)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def three(strategy: str, **more: object) -> tuple[Route, list[Target]]:
    targets = [Target("a", "x"), Target("b", "x"), Target("c", "x", weight=8)]
    return Route("r", tuple(targets), strategy=strategy, **more), targets  # type: ignore[arg-type]


def test_strategies() -> None:
    prices = PriceBook({"a/*": {"input_tokens": 5}, "b/*": {"input_tokens": 1}, "c/*": {"input_tokens": 3}})
    board = Board(prices, Clock())

    def order(strategy: str, **more: str) -> str:
        route, targets = three(strategy)
        return "".join(t.provider for t in board.order(route, targets, usage=Usage(input_tokens=100), **more))

    assert order("order") == "abc"
    assert order("cost") == "bca"
    for name, busy, first in (("a", 2, 0.3), ("b", 0, 0.2), ("c", 1, 0.1)):
        health = board.health(Target(name, "x"))
        health.busy = busy
        for _ in range(5):
            health.worked(first, 1000.0)
    assert order("least-busy") == "bca"
    assert order("latency") == "cba"
    firsts = [order("weighted")[0] for _ in range(2000)]
    assert 0.72 < firsts.count("c") / 2000 < 0.88  # expected 0.8
    homes = {session: order("sticky", session=session) for session in map(str, range(300))}
    assert all(order("sticky", session=session) == home for session, home in homes.items())
    assert len({home[0] for home in homes.values()}) == 3


def test_sticky_moves_only_the_sessions_of_the_target_that_left() -> None:
    board = Board(PriceBook(), Clock())
    route, targets = three("sticky")
    for number in range(200):
        before = board.order(route, targets, session=str(number))
        after = board.order(route, targets[:2], session=str(number))
        assert after == [target for target in before if target in after]


def test_latency_is_a_moving_percentile_and_an_unknown_target_is_tried() -> None:
    clock = Clock()
    board = Board(PriceBook(), clock)
    route, targets = three("latency", percentile=0.9)
    for _ in range(10):
        board.health(targets[0]).worked(0.1, clock.now)
        board.health(targets[1]).worked(0.2, clock.now)
    board.health(targets[0]).worked(5.0, clock.now)
    board.health(targets[0]).worked(5.0, clock.now)  # the slow tenth of `a` is what counts at 0.9
    assert "".join(t.provider for t in board.order(route, targets)) == "cba"
    clock.now += 700  # all of it is old: everybody gets another chance, in the order of the file
    assert "".join(t.provider for t in board.order(route, targets)) == "abc"


def test_cool_down_and_one_half_open_probe() -> None:
    clock = Clock()
    board = Board(PriceBook(), clock)
    route, targets = three("order", fails=2, cool_down=10.0)
    health = board.health(targets[0])

    def order() -> str:
        return "".join(t.provider for t in board.order(route, targets))

    health.failed(Fault("server"), 2, 10.0, clock.now)
    assert order() == "abc"  # one failure is none
    health.failed(Fault("server"), 2, 10.0, clock.now)
    assert order() == "bca" and health.state(clock.now) == "open"
    clock.now += 12.1
    assert health.state(clock.now) == "half-open" and order() == "abc"
    health.probing = True
    assert order() == "bca"  # the probe is under way: nobody else goes there
    health.failed(Fault("server"), 2, 10.0, clock.now)
    assert health.cools_until - clock.now > 15  # twice as long, give or take the jitter
    clock.now += 30
    health.worked(0.1, clock.now)
    assert health.state(clock.now) == "closed" and order() == "abc"
    health.failed(Fault("rate_limit", retry_after_s=7), 2, 10.0, clock.now)
    assert health.cools_until == clock.now + 7 and order() == "bca"  # a refusal shuts at once, for as long as it says


async def test_a_changed_file_is_taken_while_running_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interplay.gateway import gateway as module

    monkeypatch.setenv("INTERPLAY_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setattr(module, "RELOAD_S", 0.02)
    path = written(tmp_path / "g.toml", GOOD)

    async def until(done) -> None:
        async with asyncio.timeout(90):
            while not done():
                await asyncio.sleep(0.02)

    async with await module.Gateway.open(path) as gateway:
        assert "cheap" in gateway.config.routes
        written(path, GOOD + "\n[routes.more]\ntargets = ['house/other']\n")
        await until(lambda: "more" in gateway.config.routes)
        written(path, GOOD + "\n[routes.bad]\ntargets = []\n")
        await until(lambda: gateway.stale)
        assert ":19: " in gateway.stale and "more" in gateway.config.routes
        written(path, GOOD + "\n[policy]\nlog = 'everything'\n")
        await until(lambda: "policy" in gateway.stale)
        assert "more" in gateway.config.routes
        written(path, GOOD)
        await until(lambda: not gateway.stale)
        assert "more" not in gateway.config.routes


def test_no_file_is_a_config_too() -> None:
    assert len(default_config().providers) >= 50
