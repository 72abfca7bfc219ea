"""Sound and pictures of a context package in the formats that models take, without a picture library."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from interplay.core.types import INPUT_RATE

MAX_SIDE = 640


def wav(audio: np.ndarray) -> bytes:
    """float32 (n,), 16 kHz mono -> a 16-bit WAV file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, audio, INPUT_RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def png(frame: np.ndarray) -> bytes:
    """uint8 (H, W, 3) -> a PNG file, every n-th pixel where it is larger than 640 on a side."""
    step = max(1, -(-max(frame.shape[:2]) // MAX_SIDE))
    frame = np.ascontiguousarray(frame[::step, ::step])
    height, width = frame.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), frame.reshape(height, width * 3)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
