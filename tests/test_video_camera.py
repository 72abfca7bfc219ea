"""A camera on the page: pictures in, bounded and never trusted; through the real server, and a real browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json

import numpy as np
import pytest

from interplay.core.types import BadInput, MicroTurnIn, MicroTurnOut
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.server import wire
from interplay.surfaces.browser import BrowserSurface
from interplay.surfaces.camera import STALE_TURNS, decode

Image = pytest.importorskip("PIL.Image")


def jpeg(size: tuple[int, int] = (160, 120), colour: tuple[int, int, int] = (200, 30, 30), kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def message(data: bytes) -> str:
    return json.dumps({"type": "frame", "jpeg": base64.b64encode(data).decode()})


class Looking:
    """Hears the brightest channel of what it sees."""

    name = "looking"

    def __init__(self, sees: bool = True) -> None:
        self.capabilities = Capabilities(sees=sees)
        self.frames = 0

    async def open(self, spec: ForegroundSpec) -> Looking:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        if turn.frame is None:
            return MicroTurnOut(turn.turn, None)
        self.frames += 1
        return MicroTurnOut(turn.turn, None, ("red", "green", "blue")[int(turn.frame.mean((0, 1)).argmax())])

    async def close(self) -> None:
        return None


def test_a_picture_is_decoded_small_and_whole():
    frame = decode(jpeg())
    assert frame.shape == (120, 160, 3) and frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - (200, 30, 30)).max() < 6
    assert max(decode(jpeg((640, 480))).shape) == 320  # halved by the decoder


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", jpeg()[:300], jpeg(kind="PNG"), jpeg((4000, 3000)), np.random.default_rng(0).bytes(500)],
)
def test_what_is_no_picture_is_refused(data: bytes):
    with pytest.raises(BadInput) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (message(b"GIF89a"), "bad_frame"),
        ('{"type": "frame"}', "bad_frame"),
        ('{"type": "frame", "jpeg": "*"}', "bad_frame"),
        ('{"type": "frame", "jpeg": 5}', "bad_frame"),
        (message(jpeg() + bytes(wire.MAX_JPEG_BYTES + 1 - len(jpeg()))), "frame_too_large"),
        (message(jpeg() + bytes(2 * wire.MAX_JPEG_BYTES)), "too_large"),
    ],
)
def test_a_message_that_is_no_picture_has_a_code(raw: str, code: str):
    with pytest.raises(wire.WireError) as caught:
        wire.parse(raw)
    assert caught.value.code == code


def test_a_message_with_a_picture():
    parsed = wire.parse(message(jpeg()))
    assert isinstance(parsed, wire.Frame) and parsed.jpeg == jpeg()


async def test_the_newest_picture_counts_and_only_for_a_second():
    page = BrowserSurface(16_000, lambda: 0.0)
    assert (await page.read(0)).frame is None
    page.see(jpeg(colour=(200, 30, 30)))
    page.see(jpeg(colour=(30, 30, 200)))
    seen = [(await page.read(turn)).frame for turn in range(1, STALE_TURNS + 3)]
    assert all(frame is not None and frame[0, 0].argmax() == 2 for frame in seen[:STALE_TURNS])
    assert seen[STALE_TURNS:] == [None, None]


@contextlib.asynccontextmanager
async def serving(mind: Looking):
    import uvicorn

    from interplay.server.admission import Seats
    from interplay.server.app import create_app
    from interplay.server.house import House
    from interplay.server.live import MAX_MESSAGE_BYTES, address, listen
    from interplay.voice.base import SilentVoice

    house = House(mind, SilentVoice, Seats(1))
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(house), log_config=None, lifespan="off", ws_max_size=MAX_MESSAGE_BYTES)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address(listener).replace("http", "ws") + "ws"
    finally:
        server.should_exit = True
        await task
        listener.close()


@pytest.mark.parametrize("sees", [True, False])
async def test_pictures_reach_a_mind_that_sees(sees: bool):
    from websockets.asyncio.client import connect

    mind = Looking(sees)
    async with serving(mind) as url, connect(url) as page:
        await page.send(json.dumps({"type": "hello", "rate": 16_000}))
        opening = json.loads(await page.recv())
        assert opening["type"] == "ready" and opening["sees"] is sees
        heard, errors = [], []
        for data in (jpeg(colour=(20, 200, 20)), jpeg()[:200], b"no picture"):
            await page.send(message(data))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                async for raw in page:
                    if isinstance(raw, bytes):
                        continue
                    got = json.loads(raw)
                    heard += [got["heard"]] if got["type"] == "turn" else []
                    errors += [got["code"]] if got["type"] == "error" else []
                    if len(heard) > 3 and len(errors) == (2 if sees else 1) and any(heard) == sees:
                        break
        assert set(filter(None, heard)) == ({"green"} if sees else set())
        assert errors == ["bad_frame"] * (2 if sees else 1)  # without eyes nothing is decoded


async def test_pictures_that_come_too_fast_are_not_even_decoded(monkeypatch: pytest.MonkeyPatch):
    from websockets.asyncio.client import connect

    decoded = []
    monkeypatch.setattr(BrowserSurface, "see", lambda self, data: decoded.append(data))
    async with serving(Looking()) as url, connect(url) as page:
        await page.send(json.dumps({"type": "hello", "rate": 16_000}))
        await page.recv()
        for _ in range(100):
            await page.send(message(jpeg()))
        await page.send(json.dumps({"type": "bye"}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                async for raw in page:
                    if isinstance(raw, str) and json.loads(raw)["type"] == "ended":
                        break
    assert 10 <= len(decoded) < 60


@pytest.mark.browser
@pytest.mark.slow
def test_the_camera_button_sends_pictures_and_lets_go_of_the_camera():
    from tests.chromium import browser, server
    from tests.test_page import begin, cells, open_page, until

    with server("tests.test_video_camera") as url, browser() as opened:
        page = open_page(opened, url, permissions=["camera", "microphone"])
        assert not page.locator("#camera").is_visible()
        begin(page)
        page.locator("#camera").click()
        until(page, "window.interplay.tape.cells.some((cell) => cell.heard)", 20)
        assert page.locator("#preview").is_visible()
        page.locator("#camera").click()
        assert page.evaluate("document.querySelector('#preview').srcObject") is None
        count = len(cells(page))
        until(page, f"window.interplay.tape.cells.length >= {count + 12}", 30)
        assert not any(cell["heard"] for cell in cells(page)[-3:])
        page.locator("#end").click()
        assert not page.locator("#camera").is_visible()
        assert page.problems == []


if __name__ == "__main__":
    from interplay.server.admission import Seats
    from interplay.server.house import House
    from interplay.server.live import listen, run
    from interplay.voice.base import SilentVoice

    run(House(Looking(), SilentVoice, Seats(1)), listen("127.0.0.1", 0))
