"""Sound in and out of files and sockets: any rate and channel count in, 16 kHz mono slices; 24 kHz mono out.

Files are read and written in blocks, so an hour of sound needs the memory of a second.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile as sf
import soxr

from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, OUTPUT_RATE, BadInput, InterplayError

BLOCK_S = 1.0
SILENCE_DB = -100.0
MAX_RATE = 768_000


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a sound file is. duration_s: seconds, as its header says."""

    path: Path
    rate: int
    channels: int
    duration_s: float
    format: str


def clean(samples: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1]: NaN and infinities become 0 (one bad sample must not poison a model), the rest is clipped."""
    samples = np.asarray(samples, np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        samples = np.where(finite, samples, np.float32(0.0))
    return np.clip(samples, -1.0, 1.0)


def pcm16_to_float(pcm: bytes | bytearray | memoryview) -> np.ndarray:
    """Little-endian 16-bit PCM -> float32 (n,) in [-1, 1). A trailing odd byte is dropped."""
    data = bytes(pcm)
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768.0


def float_to_pcm16(samples: np.ndarray) -> bytes:
    """float32 (n,) -> little-endian 16-bit PCM; outside [-1, 1] saturates."""
    return np.round(clean(samples) * 32767.0).astype("<i2").tobytes()


def level_db(samples: np.ndarray) -> float:
    """RMS level in dBFS (0 = full-scale square wave), not below -100."""
    if not len(samples):
        return SILENCE_DB
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(SILENCE_DB, 10.0 * float(np.log10(power))) if power > 0 else SILENCE_DB


class Resampler:
    """Streaming sample-rate conversion of one mono stream, soxr HQ. Feed blocks of any size, get what is ready.

    Latency is soxr's filter, a few ms. Raises BadInput for a rate that no device has.
    """

    def __init__(self, rate_in: int, rate_out: int = INPUT_RATE) -> None:
        if not 1_000 <= rate_in <= MAX_RATE:
            raise BadInput(f"a sample rate of {rate_in} Hz is not usable; 8000 to 192000 Hz are common")
        self.rate_in, self.rate_out = int(rate_in), int(rate_out)
        self._stream = None
        if self.rate_in != self.rate_out:
            self._stream = soxr.ResampleStream(self.rate_in, self.rate_out, 1, dtype="float32", quality="HQ")

    def feed(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        """float32 (n,) at rate_in -> float32 (m,) at rate_out. `last` empties the filter; nothing may follow."""
        samples = clean(samples)
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), np.float32).reshape(-1)


class SliceBuffer:
    """What a live surface captured and the session has not taken yet: push blocks, take 200 ms slices.

    Never grows past `max_samples` (default 0.6 s at 16 kHz): what is older is dropped and counted, because a
    conversation is now. Late samples join the next slice.
    """

    def __init__(self, max_samples: int = 3 * INPUT_SAMPLES) -> None:
        self.max_samples = max_samples
        self.dropped = 0
        self._blocks: deque[np.ndarray] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, samples: np.ndarray) -> None:
        """Append float32 (n,) at 16 kHz."""
        self._blocks.append(samples)
        self._size += len(samples)
        if self._size > self.max_samples:
            excess = self._size - self.max_samples
            self.take(excess)
            self.dropped += excess

    def take(self, n: int = INPUT_SAMPLES) -> np.ndarray:
        """The oldest n samples, fewer if there are not so many. float32 (<= n,)."""
        taken, want = [], n
        while want and self._blocks:
            block = self._blocks.popleft()
            if len(block) > want:
                self._blocks.appendleft(block[want:])
                block = block[:want]
            taken.append(block)
            want -= len(block)
        out = np.concatenate(taken) if taken else np.zeros(0, np.float32)
        self._size -= len(out)
        return out


def probe(path: str | Path) -> AudioInfo:
    """What the file is, without reading its samples.

    Raises BadInput with one clear line for: no such file, a directory, no permission, 0 bytes, a video container,
    bytes that are no sound, a header that promises no samples.
    """
    with _open(path) as file:
        return _info(Path(path), file)


def slices(path: str | Path) -> Iterator[np.ndarray]:
    """Stream a sound file as float32 (3200,) slices of 16 kHz mono; the last one is padded with zeros.

    Channels are averaged. Raises BadInput as `probe` does, on the first `next`, and for a file that breaks off in the
    middle in a way its codec cannot read past.
    """
    buffer = SliceBuffer(max_samples=1 << 62)  # bounded by the block size: emptied after every block
    for block in _blocks(path):
        buffer.push(block)
        while len(buffer) >= INPUT_SAMPLES:
            yield buffer.take()
    if len(buffer):
        rest = buffer.take()
        yield np.pad(rest, (0, INPUT_SAMPLES - len(rest)))


def load_audio(path: str | Path) -> np.ndarray:
    """A whole sound file as float32 (n,), 16 kHz mono in [-1, 1]. Raises BadInput as `probe` does."""
    blocks = list(_blocks(path))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def save_audio(path: str | Path, samples: np.ndarray, rate: int = OUTPUT_RATE) -> None:
    """Write float32 (n,) as 16-bit mono WAV. Raises BadInput if the file cannot be created, InterplayError if full."""
    with WavWriter(path, rate) as writer:
        writer.write(samples)


class WavWriter:
    """Streams a 16-bit mono WAV. A context manager; what was written so far is a valid file after `close`.

    Raises BadInput if the file cannot be created, InterplayError if it cannot be written on (a full disk).
    """

    def __init__(self, path: str | Path, rate: int = OUTPUT_RATE) -> None:
        self.path, self.rate = Path(path), rate
        self.samples = 0
        try:
            self._file: IO[bytes] | None = self.path.open("wb")
            self._file.write(_wav_header(rate, 0))
        except OSError as error:
            raise BadInput(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, samples: np.ndarray) -> None:
        """Append float32 (n,)."""
        if self._file is None:
            raise InterplayError(f"{self.path} is already closed")
        try:
            self._file.write(float_to_pcm16(samples))
        except OSError as error:
            self._abandon()
            raise self._full(error) from error
        self.samples += len(samples)

    def close(self) -> None:
        """Put the length into the header and close. Safe to call twice."""
        if self._file is None:
            return
        try:
            self._file.flush()
            if self._file.seekable():
                self._file.seek(0)
                self._file.write(_wav_header(self.rate, self.samples))
            self._file.close()
            self._file = None
        except OSError as error:
            self._abandon()
            raise self._full(error) from error

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what it still buffers is what could not be written
                file.close()

    def _full(self, error: OSError) -> InterplayError:
        return InterplayError(f"cannot write {self.path} any further: {error.strerror or error}")


def _wav_header(rate: int, samples: int) -> bytes:
    """44 bytes: RIFF, fmt (PCM, mono, 16 bit), data. Sizes saturate: a recording over 4 GB still plays."""
    size = min(2 * samples, 0xFFFFFFFF - 36)
    riff = struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE")
    return riff + struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size)


def _blocks(path: str | Path) -> Iterator[np.ndarray]:
    """float32 blocks of about a second, 16 kHz mono."""
    with _open(path) as file:
        info = _info(Path(path), file)
        resampler = Resampler(info.rate)
        size = max(1, int(info.rate * BLOCK_S))
        while True:
            try:
                block = file.read(size, dtype="float32", always_2d=True)
            except sf.LibsndfileError as error:
                raise BadInput(f"{path} breaks off: {error.error_string.strip()}") from error
            # Clean before mixing: one NaN in one channel must not silence the other.
            mono = clean(block).mean(axis=1) if len(block) else np.zeros(0, np.float32)
            last = len(block) < size
            out = resampler.feed(mono, last=last)
            if len(out):
                yield clean(out)
            if last:
                return


def _info(path: Path, file: sf.SoundFile) -> AudioInfo:
    if file.frames <= 0 or file.channels <= 0:
        raise BadInput(f"{path} contains no sound (0 samples)")
    if not 1_000 <= file.samplerate <= MAX_RATE:
        raise BadInput(f"{path} claims a sample rate of {file.samplerate} Hz, which is not usable")
    return AudioInfo(path, file.samplerate, file.channels, file.frames / file.samplerate, file.format)


def _open(path: str | Path) -> sf.SoundFile:
    path = Path(path)
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a directory, not a sound file")
        with path.open("rb") as file:
            head = file.read(16)
        size = os.path.getsize(path)
    except FileNotFoundError as error:
        raise BadInput(f"no such file: {path}") from error
    except PermissionError as error:
        raise BadInput(f"no permission to read {path}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    if not size or not head:
        raise BadInput(f"{path} is empty (0 bytes)")
    container = _container(head)
    if container:
        raise BadInput(f"{path} is {container}, not a sound file; extract its sound first: ffmpeg -i {path} sound.wav")
    try:
        return sf.SoundFile(str(path))
    except sf.LibsndfileError as error:
        raise BadInput(f"{path} is not a sound file that can be read: {error.error_string.strip()}") from error
    except TypeError as error:  # soundfile asks for a rate when the name says .raw
        raise BadInput(f"{path} is raw samples without a header; give a WAV, FLAC, OGG or MP3 file") from error


def _container(head: bytes) -> str:
    """Names the video container that starts with these bytes, or ""."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return "an MP4/MOV video container" if head[8:11] != b"M4A" else "an M4A (MP4) container"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "a Matroska/WebM video container"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "an AVI video"
    if head[:4] == b"\x00\x00\x01\xba" or head[:3] == b"FLV":
        return "a video stream (MPEG or FLV)"
    return ""
