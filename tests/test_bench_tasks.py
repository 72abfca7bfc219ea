"""Every task can be passed, and not by silence; the command writes what other tools read."""

import json

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")
pytest.importorskip("hibari")

import soundfile

from interplay.bench.cli import TASKS
from interplay.bench.people import RecordedCast, SyntheticCast, Unspoken, load_casts
from interplay.bench.runner import Player, Run
from interplay.bench.task import Setup
from interplay.bench.together import side_by_side
from interplay.cli import main
from interplay.core.types import BadInput
from interplay.foreground.silent import SilentForeground
from interplay.training.espeak import SyntheticVoice, engine
from tests.bench_oracle import ITEM_TASKS, Oracle, Tone, item_task

# What nobody may reach by saying nothing: task -> (metric, value of the ideal listener, better is higher).
MUST_NOT_SLEEP = {
    "timespeak": ("macro_accuracy", 100.0),
    "cuespeak": ("macro_accuracy", 100.0),
    "elapsed": ("within_1s_rate", 1.0),
    "turn_taking": ("take_rate", 1.0),
    "pauses": ("answer_rate", 1.0),
    "interruption": ("stop_rate", 1.0),
    "backchannel": ("keep_rate", 1.0),
    "noise": ("keep_rate", 1.0),
    "side_talk": ("both_rate", 1.0),
    "translation": ("recall", 1.0),
    "echo": ("ignore_rate", 1.0),
    "missing": ("timespeak_accuracy_missing", 100.0),
    "delegation": ("recall", 1.0),
}


@pytest.mark.parametrize("name", list(ITEM_TASKS))
def test_an_ideal_listener_passes_every_item_and_a_silent_one_does_not(name):
    task, cast = item_task(name), SyntheticCast()
    ideal, silent = [], []
    for number in range(len(task.categories)):
        item = task.item(cast, 5, number)
        ideal.append(task.perform(item, Player(Oracle(item), Tone())))
        silent.append(task.perform(item, Player(SilentForeground(), Tone())))
    assert all(row["right"] for row in ideal), [row for row in ideal if not row["right"]]
    metric, best = MUST_NOT_SLEEP[name]
    metrics, intervals = task.summarise(ideal)
    assert metrics[metric] == best
    assert task.summarise(silent)[0][metric] == 0.0
    assert set(intervals) <= set(metrics)


def test_every_item_task_is_in_the_table():
    assert set(ITEM_TASKS) < set(TASKS)


def test_an_eager_agent_fails_where_it_should_have_waited():
    class Chatterbox(Oracle):
        async def step(self, turn):
            out = await super().step(turn)
            return type(out)(turn.turn, None, "", "hello" if turn.turn % 5 == 0 else "")

    for name, metric, worst in (
        ("pauses", "take_rate", 1.0),
        ("side_talk", "both_rate", 0.0),
        ("noise", "keep_rate", 0.0),
    ):
        task = item_task(name)
        rows = []
        for number in range(len(task.categories)):
            item = task.item(SyntheticCast(), 1, number)
            rows.append(task.perform(item, Player(Chatterbox(item), Tone())))
        assert task.summarise(rows)[0][metric] == worst


def test_going_on_is_going_on_as_without_the_sound():
    """Judged apart from what was understood: the same words at the same pace, right or wrong."""
    item = item_task("backchannel").item(SyntheticCast(), 3, 0)
    since = item.facts["from"]
    words = [("wrong", since + 0.3 + 0.4 * i) for i in range(12)]

    class Replayed(Player):
        def __init__(self, said):
            super().__init__(SilentForeground(), None)
            self.said = said

        def play(self, item, **_):
            assert item.reaction is not None
            heard = bool(np.abs(item.reaction.audio).any())
            return Run((), tuple(self.said if heard else words), reacted_s=since + 1.5)

    for said, keeps in (
        (words, True),
        (words[:4], False),  # fell silent
        ([*words, ("well", since + 5.5), ("thanks", since + 5.9), ("okay", since + 6.3)], False),  # answered
        ([(word, t if i < 5 else t + 2) for i, (word, t) in enumerate(words)], False),  # a hole
    ):
        row = item_task("backchannel").perform(item, Replayed(said))
        assert row["moved"] is not keeps and not row["right"]
        assert item_task("backchannel").summarise([row])[0]["unmoved_rate"] == float(keeps)


def test_an_agent_that_talks_on_did_not_stop():
    class Deaf(Oracle):
        """Counts on, whatever happens."""

        def __init__(self, item):
            super().__init__(item)
            first = min(self.words)
            self.words = {first + 2 * i: word for i, word in enumerate(item.facts["phrase"])}

    task = item_task("interruption")
    rows = []
    for number in range(4):
        item = task.item(SyntheticCast(), 2, number)
        rows.append(task.perform(item, Player(Deaf(item), Tone())))
    assert all(row["spoke"] for row in rows) and not any(row["right"] for row in rows)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A data folder: two speakers, one of them held out, and one clip by both of them."""
    folder = tmp_path_factory.mktemp("voices")
    rows = []
    sentences = (
        "say apple every three seconds", "say lemon in four seconds", "stop", "when i say bird you say river",
        "well i really like bird today", "the weather has been so strange lately", "what is two plus three",
        "my basket broke again and i had to walk all the way to the market",
    )  # fmt: skip
    for speaker, variant in (("one", "m1"), ("two", "f2"), ("one*0.4+two*0.6", "f4")):
        for i, text in enumerate(sentences):
            audio, words = engine().speak(text, SyntheticVoice("en-us", variant, 160, 50, 50))
            name = f"{speaker[:3]}{variant}{i}.wav"
            padded = np.concatenate([np.zeros(4000, np.float32), audio])
            soundfile.write(folder / name, padded, 16_000)
            timed = [[word, end + 0.25] for word, end in words]
            rows.append({"file": name, "text": text.capitalize() + ".", "voice": speaker, "words": timed})
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_only_held_out_speakers_of_a_folder_speak(recordings):
    import random

    (cast,), notes = load_casts([recordings], frozenset(("two",)))
    assert cast.name == "natural" and cast.speakers == ("two",) and "two only" in notes[0]
    task = item_task("timespeak")
    made = task.item(cast, 0, 0)
    assert [word for word, _ in made.words] == ["say", "apple", "every", "three", "seconds"]
    person = cast.person(random.Random(0))
    utterance = person.chat(random.Random(0), "bird")
    assert "bird" in [word for word, _ in utterance.words]
    assert utterance.words[-1][1] == pytest.approx(utterance.seconds, abs=0.15)  # silence before it is cut off
    (everybody,), notes = load_casts([recordings], frozenset(("nobody",)))
    assert everybody.speakers == ("one", "two") and "no speaker" in notes[0]


def test_what_nobody_recorded_is_not_asked(recordings):
    (cast,), _ = load_casts([recordings], None)
    with pytest.raises(Unspoken):
        item_task("translation").item(cast, 0, 0)


def test_where_no_recording_sets_the_agent_talking_the_person_types(recordings):
    task = item_task("interruption")
    (cast,), _ = load_casts([recordings], None)
    item = task.item(cast, 0, 0)
    assert item.typed and item.reaction is not None
    assert all(end < item.typed[0][0] for _, end in item.words)  # the person is heard first, if with anything
    assert task.perform(item, Player(Oracle(item), Tone()))["right"]


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"no index\.jsonl"):
        load_casts([tmp_path], None)
    (tmp_path / "index.jsonl").write_text('{"file": "a.wav", "text": "hello"}\n{"text": 3}\n')
    with pytest.raises(BadInput, match=r"index\.jsonl:2"):
        load_casts([tmp_path], None)
    with pytest.raises(BadInput):
        RecordedCast("natural", [])


def test_the_command_writes_what_other_tools_read(tmp_path, recordings):
    out = tmp_path / "b.json"
    arguments = ["timespeak", "hearing", "step", "long_session", "--n", "4", "--option", "minutes=1"]
    arguments += ["--option", "edge=0.4", "--data", str(recordings), "--held-out", "two"]
    with pytest.raises(SystemExit) as done:
        main(["bench", *arguments, "--foreground", "silent", "--json", str(out), "--report", str(tmp_path / "r")])
    assert done.value.code in (0, None)
    document = json.loads(out.read_text())
    tasks = document["tasks"]
    assert tasks["timespeak"]["metrics"]["macro_accuracy"] == 0 and tasks["timespeak"]["n"] == 4
    assert tasks["timespeak"]["metrics"]["macro_accuracy_natural"] == 0
    assert tasks["timespeak"]["categories"]["every"]["n"] == 1
    assert tasks["hearing"]["metrics"]["wer_clean"] == 100  # who hears nothing misses every word
    assert tasks["hearing"]["metrics"]["wer_10db_natural"] == 100
    assert {"p50_ms", "p99_ms"} <= set(tasks["step"]["metrics"])
    assert tasks["long_session"]["metrics"]["delta_points"] == 0
    assert tasks["long_session"]["metrics"]["memory_growth_mb"] < 50
    for result in tasks.values():
        assert all(isinstance(value, int | float | None) for value in result["metrics"].values())
        assert set(result["interval"]) <= set(result["metrics"])
    assert document["machine"] and document["seed"] == 0 and document["foreground"] == "silent"
    assert (tmp_path / "r" / "bench.png").stat().st_size > 5000
    assert len((tmp_path / "r" / "items.jsonl").read_text().splitlines()) >= 12


@pytest.mark.slow
def test_items_side_by_side_find_what_they_find_one_by_one():
    pytest.importorskip("torch")
    from interplay.bench.pool import Job, Worker
    from interplay.foreground.native import NativeForeground

    mind = NativeForeground.load()
    worker = Worker(Job("interplay.bench.speaking:CUESPEAK", Setup(seed=3)), mind)
    assert len(worker.players) > 1
    items = [worker.make(0, number) for number in range(6)]
    together = list(side_by_side(items, worker.play, worker.players))
    assert together == list(side_by_side(items, worker.play, worker.players[:1]))
    assert [row["number"] for row in together] == list(range(6))


def test_an_item_that_fails_ends_the_rest():
    played = []

    def play(item, player):
        played.append(item)
        if item == 3:
            raise BadInput("no such item")
        return item

    with pytest.raises(BadInput):
        list(side_by_side(range(1000), play, [Player(SilentForeground(), None) for _ in range(2)]))
    assert len(played) < 20


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / f"{jobs}.json"
        arguments = ["turn_taking", "--foreground", "silent", "--n", "6", "--jobs", jobs, "--json", str(out)]
        with pytest.raises(SystemExit):
            main(["bench", *arguments])
        found.append(json.loads(out.read_text())["tasks"])
    assert found[0] == found[1]
