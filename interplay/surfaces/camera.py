"""A live camera, seen through JPEG files from an untrusted page: small, whole, and never older than a second."""

from __future__ import annotations

import io

import numpy as np

from interplay.core.types import BadInput, Missing

try:  # when the server starts, and not when the first picture of somebody comes
    from PIL import Image
except ImportError:
    Image = None

MAX_SIDE = 640  # pixels; a header that promises more is not decoded
SMALL = 160  # the JPEG decoder itself halves what is larger than twice this, which is where its time goes
STALE_TURNS = 5  # micro-turns for which a picture counts if no newer one comes: then the camera is off


class Camera:
    """The newest picture and how long it still counts."""

    def __init__(self) -> None:
        self._frame: np.ndarray | None = None
        self._left = 0

    def show(self, jpeg: bytes) -> None:
        """Take a picture. Raises BadInput if it is none, or too large."""
        self._frame, self._left = decode(jpeg), STALE_TURNS

    def frame(self) -> np.ndarray | None:
        """uint8 (h, w, 3) of this micro-turn, None while the camera is off. Call it once per micro-turn."""
        if self._left == 0:
            self._frame = None
        self._left = max(0, self._left - 1)
        return self._frame


def decode(jpeg: bytes) -> np.ndarray:
    """A JPEG file as uint8 (h, w, 3) RGB. Raises BadInput for anything else, Missing without Pillow (extra `live`)."""
    if Image is None:
        raise Missing('a camera needs Pillow; get it with: pip install "interplay[live]"')
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
            if max(picture.size) > MAX_SIDE:
                raise BadInput(f"a picture of {picture.size[0]} x {picture.size[1]} pixels; at most {MAX_SIDE} a side")
            picture.draft("RGB", (SMALL, SMALL))
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput("a picture that is not a whole JPEG file") from error
