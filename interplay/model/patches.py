"""The model's view of a picture: four patches of 40x40 pixels through a hierarchical MLP stem, and what has changed.

hMLP (Touvron et al. 2022, arXiv 2203.09795): stages of linear, norm and GELU over 4x4, 2x2 and 5x5 neighbours that
never look beyond their own patch, so that a patch is a vector whatever is around it. Beside the picture the stem sees
its difference to the previous frame: motion is what a small model would otherwise have to learn to subtract.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FRAME_SIDE = 80
PATCH_SIDE = 40
PATCHES = (FRAME_SIDE // PATCH_SIDE) ** 2
_STAGES = (4, 2, 5)  # 4 x 2 x 5 = 40


class PatchStem(nn.Module):
    """Frames to patch vectors. width: of the vectors; hidden: of the two stages below."""

    def __init__(self, width: int, hidden: tuple[int, int] = (64, 128)) -> None:
        super().__init__()
        sizes = (6, *hidden, width)
        self.linear = nn.ModuleList(
            nn.Linear(stage * stage * below, above)
            for stage, below, above in zip(_STAGES, sizes[:-1], sizes[1:], strict=True)
        )
        # Every stage is normalised; the last too, so that what leaves the stem has the scale of the other inputs.
        self.norm = nn.ModuleList(nn.RMSNorm(size) for size in sizes[1:])
        self.place = nn.Parameter(torch.randn(PATCHES, width) * 0.02)

    def forward(self, frames: Tensor, previous: Tensor) -> Tensor:
        """frames, previous: uint8 (..., 80, 80, 3), a frame and the one before it (the same again for the first one).
        Returns float (..., 4, width): top left, top right, bottom left, bottom right."""
        # Neighbourhoods are gathered while a value is still one byte, and scaled in the weights: at full resolution
        # every pass over the pixels costs as much as the product itself.
        now, before = (_gather(x.flatten(0, -4), _STAGES[0]).to(self.place.dtype) for x in (frames, previous))
        first: nn.Linear = self.linear[0]  # type: ignore[assignment]
        half = first.in_features // 2
        weight = torch.cat([first.weight[:, :half] / 128, first.weight[:, half:] / 64], 1).t().contiguous().t()
        bias = first.bias - first.weight[:, :half].sum(1)  # black is -1, white is 1
        x = self.norm[0](F.linear(torch.cat([now, now - before], -1), weight, bias))
        for i, stage in enumerate(_STAGES[1:], 1):
            x = self.norm[i](self.linear[i](_gather(F.gelu(x), stage)))
        return x.flatten(1, 2).unflatten(0, frames.shape[:-3]) + self.place


def _gather(x: Tensor, size: int) -> Tensor:
    """(n, h, w, c) -> (n, h / size, w / size, size x size x c): every neighbourhood as one vector."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, height // size, width // size, size * size * channels)


def fit(frame: np.ndarray) -> np.ndarray:
    """A picture of any size as the stem takes it: scaled to fit, black bars where it is not square.

    frame: uint8 (h, w, 3) RGB. Returns uint8 (80, 80, 3). Raises ValueError for anything else than such a picture.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"a frame is uint8 (height, width, 3), not {frame.dtype} {frame.shape}")
    height, width = frame.shape[:2]
    if (height, width) == (FRAME_SIDE, FRAME_SIDE):
        return frame
    scale = FRAME_SIDE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
    small = F.interpolate(picture, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
    out = np.zeros((FRAME_SIDE, FRAME_SIDE, 3), np.uint8)
    top, left = (FRAME_SIDE - size[0]) // 2, (FRAME_SIDE - size[1]) // 2
    out[top : top + size[0], left : left + size[1]] = small.permute(1, 2, 0).numpy()
    return out
