"""The patch stem: patches stay apart, motion is seen, any picture fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interplay.model.patches import PATCHES, PatchStem, fit


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 80, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def stem() -> PatchStem:
    torch.manual_seed(0)
    return PatchStem(64, (16, 32)).eval()


def test_any_leading_axes_and_the_same_every_time(stem: PatchStem):
    frames, before = pictures(2, 3), pictures(2, 3).flip(3)
    out = stem(frames, before)
    assert out.shape == (2, 3, PATCHES, 64) and torch.isfinite(out).all()
    assert torch.equal(out, stem(frames, before))
    one = stem(frames[1, 2][None], before[1, 2][None])
    assert torch.allclose(out[1, 2], one[0], atol=1e-5)


def test_a_patch_does_not_see_its_neighbours(stem: PatchStem):
    frames = pictures(1)
    other = frames.clone()
    other[:, :40, 40:] = 0  # top right
    changed = (stem(frames, frames) - stem(other, other)).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_it_sees_motion_and_tells_its_direction(stem: PatchStem):
    frames, before = pictures(1), pictures(1).roll(4, 2)
    still, forth, back = stem(frames, frames), stem(frames, before), stem(before, frames)
    assert not torch.allclose(still, forth, atol=1e-3) and not torch.allclose(forth, back, atol=1e-3)


def test_the_folded_first_stage_is_the_plain_one(stem: PatchStem):
    """Scaling in the weights is the same as scaling the pixels."""
    frames, before = pictures(1), pictures(1).roll(1, 1)
    now, change = frames.float() / 128 - 1, (frames.float() - before.float()) / 64

    def neighbours(x: torch.Tensor) -> torch.Tensor:
        return x.view(1, 20, 4, 20, 4, 3).permute(0, 1, 3, 2, 4, 5).reshape(1, 20, 20, 48)

    x = torch.cat([neighbours(now), neighbours(change)], -1)
    x = torch.nn.functional.gelu(stem.norm[0](stem.linear[0](x)))
    x = x.view(1, 10, 2, 10, 2, 16).permute(0, 1, 3, 2, 4, 5).reshape(1, 10, 10, 64)
    x = torch.nn.functional.gelu(stem.norm[1](stem.linear[1](x)))
    x = x.view(1, 2, 5, 2, 5, 32).permute(0, 1, 3, 2, 4, 5).reshape(1, 2, 2, 800)
    x = stem.norm[2](stem.linear[2](x)).flatten(1, 2) + stem.place
    assert torch.allclose(x, stem(frames, before), atol=1e-4)


def test_every_weight_learns(stem: PatchStem):
    stem(pictures(2), pictures(2).flip(1)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stem.parameters())


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (80, 80), (3, 500), (1, 1), (41, 37)])
def test_a_picture_of_any_size_fits(size: tuple[int, int]):
    frame = fit(np.full((*size, 3), 200, np.uint8))
    assert frame.shape == (80, 80, 3) and frame.dtype == np.uint8
    inside = frame.max(2) > 0
    height, width = inside.any(1).sum(), inside.any(0).sum()
    assert max(height, width) == 80 and abs(height / width - size[0] / size[1]) < 0.3 * max(1, size[0] / size[1])
    assert frame[inside].min() == 200


def test_a_picture_made_small_is_averaged_not_sampled():
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 200
    assert abs(int(fit(stripes)[40, 40, 0]) - 100) < 10


@pytest.mark.parametrize("wrong", [np.zeros((80, 80), np.uint8), np.zeros((80, 80, 3)), np.zeros((0, 80, 3), np.uint8)])
def test_what_is_no_picture_is_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        fit(wrong)
