"""Recordings of single words become utterances that training can use."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from interplay.cli import app
from interplay.core.types import BadInput
from interplay.training.clips import Bank
from interplay.training.espeak import SyntheticVoice, engine
from interplay.training.joining import join
from interplay.training.speakers import PITCHES


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """Two voices say ten digits each, at 8 kHz, with silence around."""
    folder, rows = tmp_path_factory.mktemp("singles"), []
    words = "zero one two three four five six seven eight nine"
    for speaker, variant in (("low", "m1"), ("high", "f1")):
        for word in words.split():
            audio, _ = engine().speak(word, SyntheticVoice("en-us", variant, 170, 50, 50))
            quiet = np.zeros(4000, np.float32)
            name = f"{speaker}_{word}.wav"
            soundfile.write(folder / name, np.concatenate([quiet, audio[::2], quiet]), 8000)
            rows.append({"file": name, "text": word.title() + ".", "speaker": speaker})
    rows.append({"file": "none.wav", "text": "two words", "speaker": "low"})  # not a single word: not looked at
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_words_end_where_their_sound_does(singles, tmp_path):
    index = join(singles, tmp_path / "out", 12, seed=3)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    assert len(rows) == 12 and {row["speaker"] for row in rows} == {"low", "high"}
    for row in rows:
        audio, rate = soundfile.read(tmp_path / "out" / row["file"])
        assert rate == 16_000 and len(audio) / rate == pytest.approx(row["seconds"], abs=0.02)
        assert row["text"].split() == [word for word, _ in row["words"]] and 1 <= len(row["words"]) <= 5
        began = 0.0
        for _, end in row["words"]:
            word, after = audio[int(began * rate) : int(end * rate)], audio[int((end + 0.02) * rate) :][: rate // 40]
            assert np.sqrt((word**2).mean()) > 0.02, "a word without sound"
            assert np.abs(after).max(initial=0) < 0.01, "sound after a word's end"
            began = end


def test_training_takes_them_and_leaves_speakers_out(singles, tmp_path):
    folder = join(singles, tmp_path / "out", 10).parent
    everybody, rest = Bank([folder]), Bank([folder], held_out=frozenset({"high"}))
    assert len(everybody) == 10 * (1 + len(PITCHES)) and len(rest) == 5 * (1 + len(PITCHES))
    assert everybody.with_word and all(clip_words for clip_words in everybody.with_word.values())


def test_what_cannot_be_joined_is_one_clear_line(singles, tmp_path):
    with pytest.raises(BadInput, match="by nobody"):
        join(singles, tmp_path / "a", 3, speakers=("nobody",))
    with pytest.raises(BadInput, match="no index"):
        join(tmp_path, tmp_path / "b", 3)
    join(singles, tmp_path / "c", 1, speakers=("low",))
    with pytest.raises(BadInput, match="exists already"):
        join(singles, tmp_path / "c", 1)
    result = CliRunner().invoke(app, ["voicebank", str(tmp_path / "d"), "--speaker", "low"])
    assert isinstance(result.exception, BadInput) and "--join" in str(result.exception)
