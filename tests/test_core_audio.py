"""Any sound in, clear words for everything else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from interplay.core.audio import (
    Resampler,
    SliceBuffer,
    WavWriter,
    clean,
    float_to_pcm16,
    level_db,
    load_audio,
    pcm16_to_float,
    probe,
    save_audio,
    slices,
)
from interplay.core.types import INPUT_RATE, INPUT_SAMPLES, OUTPUT_RATE, BadInput, InterplayError


def tone(rate: int, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "in.wav"
    sf.write(path, np.repeat(tone(rate)[:, None], channels, axis=1), rate)
    audio = load_audio(path)
    assert audio.dtype == np.float32 and abs(len(audio) - INPUT_RATE) <= 2
    middle = slice(1_600, 14_400)
    assert np.abs(audio[middle] - tone(INPUT_RATE)[: len(audio)][middle]).max() < 0.01


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_compressed_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"in.{kind.lower()}"
    sf.write(path, tone(44_100), 44_100, format=kind)
    assert level_db(load_audio(path)[2_000:14_000]) == pytest.approx(level_db(tone(INPUT_RATE)), abs=0.5)


def test_slices_are_the_whole_file_in_order_and_padded(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    sf.write(path, tone(8_000, 3.33), 8_000)
    parts = list(slices(path))
    assert {part.shape for part in parts} == {(INPUT_SAMPLES,)} and len(parts) == 17
    whole = load_audio(path)
    assert np.array_equal(np.concatenate(parts)[: len(whole)], whole)
    assert not np.concatenate(parts)[len(whole) :].any()


def test_nan_and_infinity_become_silence_and_spare_the_other_channel(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    samples = np.stack([tone(16_000), tone(16_000)], axis=1)
    samples[100:200, 0], samples[300:400, 0], samples[500, 0] = np.nan, np.inf, 7.0
    sf.write(path, samples, 16_000, subtype="FLOAT")
    audio = load_audio(path)
    assert np.isfinite(audio).all() and np.abs(audio).max() <= 1.0
    assert np.allclose(audio[100:200], tone(16_000)[100:200] / 2) and np.allclose(audio[600:], tone(16_000)[600:])


def test_a_truncated_wav_gives_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    sf.write(path, tone(16_000, 2.0), 16_000)
    path.write_bytes(path.read_bytes()[:20_001])
    assert 9_000 < len(load_audio(path)) < 10_001


def garbage() -> bytes:
    return np.random.default_rng(0).bytes(5_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (garbage(), "not a sound file"),
        (b"RIFF", "not a sound file"),
        (b"hello, I am text\n" * 9, "not a sound file"),
        (b"\x00\x00\x00\x20ftypisom" + garbage(), "MP4"),
        (b"\x1a\x45\xdf\xa3" + garbage(), "WebM"),
        (b"RIFF\x00\x10\x00\x00AVI LIST" + garbage(), "AVI"),
        (b"\x00\x00\x00\x20ftypM4A " + garbage(), "M4A"),
    ],
)
def test_what_is_no_sound_is_one_clear_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    for read in (probe, load_audio, lambda p: next(slices(p))):
        with pytest.raises(BadInput, match=says) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_missing_directory_no_samples_no_permission_raw(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        probe(tmp_path / "nothing.wav")
    with pytest.raises(BadInput, match="directory"):
        probe(tmp_path)
    empty = tmp_path / "empty.wav"
    sf.write(empty, np.zeros(0, np.float32), 16_000)
    with pytest.raises(BadInput, match="no sound"):
        probe(empty)
    (tmp_path / "x.raw").write_bytes(b"\x01" * 100)
    with pytest.raises(BadInput, match="raw samples"):
        probe(tmp_path / "x.raw")
    if os.geteuid() != 0:
        empty.chmod(0)
        with pytest.raises(BadInput, match="permission"):
            probe(empty)


def test_probe(tmp_path: Path) -> None:
    sf.write(tmp_path / "in.wav", np.zeros((8_000, 2)), 8_000)
    info = probe(tmp_path / "in.wav")
    assert (info.rate, info.channels, info.duration_s, info.format) == (8_000, 2, 1.0, "WAV")


def test_streamed_resampling_is_the_same_whatever_the_block_size() -> None:
    source = tone(48_000, 1.0)
    whole = Resampler(48_000).feed(source, last=True)
    stream = Resampler(48_000)
    blocks = [stream.feed(source[i : i + 128]) for i in range(0, len(source), 128)]
    joined = np.concatenate([*blocks, stream.feed(np.zeros(0, np.float32), last=True)])
    assert len(joined) == len(whole) == 16_000 and np.allclose(joined, whole, atol=1e-4)
    for rate in (0, -1, 10, 10**7):
        with pytest.raises(BadInput):
            Resampler(rate)


def test_slice_buffer_keeps_order_and_never_grows() -> None:
    buffer = SliceBuffer(max_samples=1_000)
    buffer.push(np.arange(300, dtype=np.float32))
    buffer.push(np.arange(300, 600, dtype=np.float32))
    assert np.array_equal(buffer.take(400), np.arange(400)) and len(buffer) == 200
    assert len(buffer.take(400)) == 200 and len(buffer.take(1)) == 0
    for start in range(0, 100_000, 500):
        buffer.push(np.arange(start, start + 500, dtype=np.float32))
    assert len(buffer) == 1_000 and buffer.dropped == 99_000
    assert buffer.take(1)[0] == 99_000


def test_pcm16_round_trip_and_saturation() -> None:
    samples = np.array([0.0, 0.5, -0.5, 2.0, -2.0, np.nan], np.float32)
    back = pcm16_to_float(float_to_pcm16(samples))
    assert np.allclose(back, [0, 0.5, -0.5, 1, -1, 0], atol=1e-4)
    assert len(pcm16_to_float(b"\x01\x02\x03")) == 1
    assert clean(samples).dtype == np.float32


def test_wav_writer_streams_a_file_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    with WavWriter(path) as writer:
        for part in np.split(tone(OUTPUT_RATE), 10):
            writer.write(part)
    audio, rate = sf.read(path, dtype="float32")
    info = sf.info(path)
    assert (rate, info.channels, info.subtype) == (OUTPUT_RATE, 1, "PCM_16")
    assert np.abs(audio - tone(OUTPUT_RATE)).max() < 1e-4
    save_audio(tmp_path / "none.wav", np.zeros(0, np.float32))
    assert sf.info(tmp_path / "none.wav").frames == 0
    with pytest.raises(BadInput, match="cannot write"):
        WavWriter(tmp_path / "no" / "where.wav")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_error() -> None:
    with pytest.raises(InterplayError, match="No space left"), WavWriter("/dev/full") as writer:
        for _ in range(100):
            writer.write(np.zeros(4_800, np.float32))
