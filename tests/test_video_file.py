"""A video file beside the sound: real files, written by FFmpeg, through the command a user types."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.cli import main
from interplay.core.timeline import read_timeline
from interplay.core.types import BadInput, MicroTurnIn, MicroTurnOut
from interplay.foreground import registry
from interplay.foreground.base import Capabilities, ForegroundSpec
from interplay.surfaces.video import VideoFile

av = pytest.importorskip("av")


def write(
    path: Path,
    levels: list[int],
    *,
    rate: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    times: list[float] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    corner: bool = False,
) -> Path:
    """A film of grey pictures of these levels; with a white corner at the top left if wanted."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, rate)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for i, level in enumerate(levels):
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            if corner:
                picture[: size[1] // 2, : size[0] // 2] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(times[i] * 1000) if times else i
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(video: VideoFile, turns: int) -> list[int | None]:
    frames = [video.frame(turn) for turn in range(turns)]
    return [None if frame is None else round(float(frame.mean())) for frame in frames]


@pytest.mark.parametrize(("rate", "name"), [(10, "a.mp4"), (25, "a.avi"), (30, "a.mkv"), (5, "a.mov"), (2, "a.mp4")])
def test_the_picture_of_a_micro_turn_is_the_newest_that_a_camera_would_have_shown(tmp_path: Path, rate: int, name: str):
    shown = [20 + (i * 200) // (4 * rate) for i in range(4 * rate)]  # four seconds, brighter and brighter
    video = VideoFile(write(tmp_path / name, shown, rate=rate))
    seen = levels(video, 20)
    for turn, level in enumerate(seen):
        newest = int(np.ceil((turn + 1) * 0.2 * rate - 1e-6)) - 1
        assert level == pytest.approx(shown[newest], abs=10 if rate == 2 else 4), turn
    video.close()


def test_pictures_that_come_when_something_changes_are_held_and_the_end_is_the_end(tmp_path: Path):
    video = VideoFile(write(tmp_path / "screen.mkv", [50, 200], times=[0.0, 2.5]))
    seen = levels(video, 40)
    assert seen[:12] == [pytest.approx(50, abs=4)] * 12
    assert seen[12:22] == [pytest.approx(200, abs=4)] * 10
    assert seen[30:] == [None] * 10


def test_pixels_that_are_not_square_and_films_that_lie_on_their_side(tmp_path: Path):
    wide = VideoFile(write(tmp_path / "wide.mkv", [90] * 5, size=(64, 64), aspect=Fraction(2, 1)))
    frame = wide.frame(0)
    assert frame is not None and frame.shape == (64, 128, 3)
    for rotation, where in ((90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))):
        path = write(tmp_path / f"turned{rotation}.mp4", [30] * 5, size=(64, 48), rotation=rotation, corner=True)
        frame = VideoFile(path).frame(0)
        assert frame is not None and frame.shape[:2] == ((48, 64) if rotation == 180 else (64, 48))
        corners = {(y, x): float(frame[y * 5, x * 5].mean()) for y in (0, -1) for x in (0, -1)}
        assert max(corners, key=lambda k: corners[k]) == where, rotation


def test_large_pictures_are_made_small_at_once(tmp_path: Path):
    frame = VideoFile(write(tmp_path / "large.mp4", [90] * 3, size=(1280, 720))).frame(0)
    assert frame is not None and frame.shape == (180, 320, 3)


def test_what_is_no_video_is_one_clear_line(tmp_path: Path):
    (tmp_path / "garbage.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    whole = write(tmp_path / "whole.mp4", [100] * 40, size=(320, 240)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    sf.write(tmp_path / "sound.wav", np.zeros(1600), 16_000)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
    for name in ("garbage.mp4", "empty.mp4", "cut.mp4", "sound.wav", "list.m3u8", "nothing.mp4", "."):
        with pytest.raises(BadInput) as caught:
            VideoFile(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_damaged_part_is_passed_over(tmp_path: Path):
    path = write(tmp_path / "scratched.avi", [100] * 60, size=(320, 240))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = np.random.default_rng(1).bytes(200)
    path.write_bytes(data)
    assert sum(level is not None for level in levels(VideoFile(path), 30)) > 20


class Watcher:
    """Says "light" when the picture gets bright."""

    name = "watcher"

    def __init__(self, sees: bool) -> None:
        self.capabilities = Capabilities(sees=sees)
        self.bright = False
        self.blind = 0

    async def open(self, spec: ForegroundSpec) -> Watcher:
        return self

    async def step(self, turn: MicroTurnIn) -> MicroTurnOut:
        self.blind += turn.frame is None
        bright = turn.frame is not None and float(turn.frame.mean()) > 128
        rises, self.bright = bright and not self.bright, bright
        return MicroTurnOut(turn.turn, None, "", "light" if rises else "")

    async def close(self) -> None:
        return None


def run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    return int(caught.value.code or 0)


def test_run_with_a_video_sees_it_on_the_clock_of_the_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("hibari")
    mind = Watcher(sees=True)
    monkeypatch.setitem(registry.FOREGROUNDS, "watcher", lambda checkpoint: mind)
    sf.write(tmp_path / "in.wav", np.zeros(16_000 * 4, np.float32), 16_000)
    film = write(tmp_path / "film.mp4", [30] * 20 + [220] * 20)  # bright from second 2 on
    line = tmp_path / "out.jsonl"
    assert run("run", tmp_path / "in.wav", "--video", film, "--foreground", "watcher", "--timeline", line) == 0
    said = [r for r in read_timeline(line) if (r["lane"], r["kind"]) == ("agent", "said")]
    assert [(r["text"], r["turn"]) for r in said] == [("light", 10)]


def test_a_mind_without_eyes_and_a_bad_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(registry.FOREGROUNDS, "watcher", lambda checkpoint: Watcher(sees=False))
    sf.write(tmp_path / "in.wav", np.zeros(16_000, np.float32), 16_000)
    film = write(tmp_path / "film.mp4", [30] * 10)
    out = tmp_path / "out.wav"
    for video in (film, tmp_path / "in.wav", tmp_path / "nothing.mp4"):
        assert run("run", tmp_path / "in.wav", "--video", video, "--foreground", "watcher", "--out", out) == 2
        told = capsys.readouterr()
        assert told.err.count("\n") == 1 and told.err.startswith("interplay: ")
        assert not out.exists()
