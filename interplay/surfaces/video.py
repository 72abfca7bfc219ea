"""A video file as eyes: the newest picture of every micro-turn, on the same clock as the sound beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from interplay.core.types import MICRO_TURN_S, BadInput, InterplayError, Missing
from interplay.session.surface import SurfaceIn
from interplay.surfaces.file import FileSurface

LONG_SIDE = 320  # pixels: far more than any model here looks at, far less than a camera delivers
MAX_SIDE = 8_192
HOLD_S = 2.0  # a screen recording has no new picture while nothing changes; after this the camera counts as off


class VideoFile:
    """Pictures of the first video stream of a file, scaled so that the longer side is at most 320 pixels.

    Second 0 is the start of the container: a stream that begins later has no picture before that. The picture of
    micro-turn k is the newest one that began before (k + 1) x 0.2 s, which is what a camera would have shown by then.

    Raises Missing without PyAV (extra `video`), BadInput for a file that has no picture that can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._container, self._stream = _open(self.path)
        try:
            start = self._container.start_time
            self._start = Fraction(start, 1_000_000) if start is not None else Fraction(0)
            self._frames = self._decode()
            self._ahead: tuple[float, np.ndarray] | None = None
            self._now: tuple[float, np.ndarray] | None = None
            self._ahead = next(self._frames, None)
        except BaseException:
            self.close()
            raise
        if self._ahead is None:
            self.close()
            raise BadInput(f"{self.path}: not one picture in it can be read")

    def frame(self, turn: int) -> np.ndarray | None:
        """uint8 (h, w, 3) RGB of micro-turn `turn`, None before the first picture and after the last. Turns ascend."""
        end = (turn + 1) * MICRO_TURN_S - 1e-6
        while self._ahead is not None and self._ahead[0] < end:
            self._now = self._ahead
            self._ahead = next(self._frames, None)
        if self._now is None:
            return None
        if self._ahead is None and end - self._now[0] > HOLD_S:
            return None
        return self._now[1]

    def close(self) -> None:
        self._container.close()

    def _decode(self) -> Iterator[tuple[float, np.ndarray]]:
        """(second, picture), ascending. Damaged parts are passed over, as any player does."""
        from av.error import FFmpegError

        last = -1.0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)  # a reader that has failed has no more packets
                if packet is None:
                    return
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                time = float(frame.pts * frame.time_base - self._start)
                if time > last:
                    last = time
                    yield time, _picture(frame, self._stream.sample_aspect_ratio)


class FilmedSurface(FileSurface):
    """A sound file with a video beside it. It is as long as the sound: the video adds pictures, not time."""

    def __init__(self, source: str | Path, video: str | Path, out: str | Path | None = None) -> None:
        super().__init__(source, out)
        self.video = VideoFile(video)

    async def read(self, turn: int) -> SurfaceIn | None:
        captured = await super().read(turn)
        return None if captured is None else replace(captured, frame=self.video.frame(turn))

    async def close(self, error: InterplayError | None) -> None:
        self.video.close()
        await super().close(error)


def _picture(frame: Any, aspect: Fraction | None) -> np.ndarray:
    """A decoded frame as it is meant to be seen: square pixels, upright, uint8 (h, w, 3). aspect: of one pixel."""
    from av.video.reformatter import Interpolation

    width, height = float(frame.width * (aspect or 1)), float(frame.height)
    scale = min(1.0, LONG_SIDE / max(width, height))
    size = {"width": max(2, round(width * scale)), "height": max(2, round(height * scale))}
    pixels = frame.to_ndarray(format="rgb24", interpolation=Interpolation.AREA, **size)
    # The file says how far to turn it counter-clockwise.
    return np.rot90(pixels, round(frame.rotation / 90) % 4)


def _open(path: Path) -> tuple[Any, Any]:
    try:
        import av
        from av import logging
        from av.error import FFmpegError
    except ImportError as error:
        raise Missing('--video needs PyAV; get it with: pip install "interplay[video]"') from error
    logging.set_level(logging.PANIC)  # FFmpeg's own remarks are not for the person who typed the command
    if not path.exists():
        raise BadInput(f"no such file: {path}")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; --video wants a video file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    try:
        container = av.open(str(path.resolve()), options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "unknown format"
        raise BadInput(f"{path} is not a video that can be read ({reason})") from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path} has no picture in it; --video wants a video file")
    stream = container.streams.video[0]
    width, height = stream.codec_context.width, stream.codec_context.height
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        container.close()
        raise BadInput(f"{path}: pictures of {width} x {height} pixels; at most {MAX_SIDE} a side")
    stream.thread_count = 1
    return container, stream
