"""The background room in live sessions: what users complain about elsewhere must not happen here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from interplay.background import Abilities, BackgroundRoom, Delegation, Piece, State, Work
from interplay.background.embedded import EmbeddedBackground
from interplay.background.judge import judge, relation
from interplay.background.package import Line, lines_of
from interplay.background.utterance import Kind, classify, is_complete, is_question, says_yes
from interplay.core.types import Action, Event
from tests.background_scene import DELEGATE, DELIVER, YIELD, Told, converse


def told(**plan: tuple[float, list[str]]) -> Told:
    """Answers by a word of the question."""

    def answer(question: str) -> tuple[float, list]:
        return next((value for word, value in plan.items() if word in question), (0.5, ["I do not know."]))

    return Told(answer)


# complaints


async def test_a_question_is_acknowledged_at_once_and_its_result_spoken_unprompted() -> None:
    mind = told(france=(4.0, ["Paris is the capital."]))
    talk = await converse([(1.0, "what is the capital of france")], BackgroundRoom(mind), seconds=12)
    end = 1.0 + 6 * 0.36 - 0.02
    first = talk.records("agent", "said")[0]
    assert end < first["t"] <= end + 0.4 and first["text"] == "Let"
    assert talk.said() == "Let me see. Paris is the capital."
    result = talk.records("background", "result")[0]["t"]
    assert result <= talk.said_at("Paris")[0] <= result + 0.6
    assert talk.states() == {"d1": "delivered"}


async def test_two_answers_to_one_question() -> None:
    mind = told(france=(3.0, ["Paris."]))
    says = [(1.0, "what is the capital of france"), (4.2, "what is the capital of france")]
    talk = await converse(says, BackgroundRoom(mind), seconds=14)
    assert len(mind.started) == 1 and talk.said().count("Paris.") == 1


async def test_an_answer_the_foreground_gave_itself_is_not_given_again() -> None:
    mind = told(france=(3.0, ["Paris."]))
    script = {22: {"said": "it is Paris"}}
    talk = await converse([(1.0, "what is the capital of france")], BackgroundRoom(mind), seconds=12, script=script)
    assert talk.said().count("Paris") == 1 and "Paris." not in talk.said()
    assert talk.records("background", "context")[0]["text"] == "Paris." and talk.states() == {"d1": "delivered"}


async def test_a_pending_answer_is_neither_invented_nor_cancelled_by_asking_for_it() -> None:
    mind = told(train=(8.0, ["The next train leaves at nine."]))
    says = [(1.0, "when does the next train leave"), (5.0, "are you still looking")]
    talk = await converse(says, BackgroundRoom(mind), seconds=16)
    before = [r["text"] for r in talk.records("agent", "said") if r["t"] < 10.0]
    assert " ".join(before) == "Let me see. Still on it."
    assert talk.said().endswith("The next train leaves at nine.") and mind.cancelled == []
    assert len(mind.started) == 1


async def test_a_superseded_question_is_never_answered_and_its_work_ends_at_once() -> None:
    mind = told(four=(2.0, ["It is 408."]), three=(9.0, ["It is 391."]))
    says = [(1.0, "what is seventeen times twenty three"), (4.0, "no wait what is seventeen times twenty four")]
    talk = await converse(says, BackgroundRoom(mind), seconds=16)
    assert "391" not in talk.said() and talk.said().endswith("It is 408.")
    assert talk.states() == {"d1": "superseded", "d2": "delivered"}
    assert mind.cancelled == ["what is seventeen times twenty three"]


async def test_a_stale_result_that_was_ready_but_not_spoken_is_dropped_with_its_question() -> None:
    mind = told(three=(0.2, ["It is 391."]), four=(0.2, ["It is 408."]))
    # "... four" comes before there was an opening for 391.
    says = [(1.0, "what is seventeen times twenty three"), (3.7, "no i mean what is seventeen times twenty four")]
    talk = await converse(says, BackgroundRoom(mind), seconds=14)
    assert "391" not in talk.said() and "It is 408." in talk.said()
    superseded = talk.records("background", "superseded")[0]
    assert superseded["id"] == "d1" and superseded["unsaid"] == "It is 391."


async def test_never_mind_withdraws_within_two_micro_turns_and_nothing_is_spoken_later() -> None:
    mind = told(train=(6.0, ["The next train leaves at nine."]))
    says = [(1.0, "when does the next train leave"), (4.6, "never mind")]
    talk = await converse(says, BackgroundRoom(mind), seconds=14)
    said_at = 4.6 + 2 * 0.36 - 0.02
    dropped = talk.records("background", "dropped")[0]
    assert dropped["reason"] == "withdrawn" and dropped["t"] <= said_at + 0.4 and mind.cancelled
    assert "train" not in talk.said() and talk.said().endswith("Okay.")


async def test_concurrent_delegations_are_kept_apart() -> None:
    mind = told(train=(7.0, ["At nine."]), lantern=(3.5, ["It was Maria Keller."]))
    says = [(1.0, "when does the next train leave"), (4.2, "who built the lantern tower")]
    talk = await converse(says, BackgroundRoom(mind), seconds=20)
    said = talk.said()
    assert "You asked: who built the lantern tower. It was Maria Keller." in said
    assert said.index("Maria") < said.index("At nine.") and talk.states() == {"d1": "delivered", "d2": "delivered"}
    spoken = {id: [r["text"] for r in talk.records("agent", "said") if r.get("of") == id] for id in ("d1", "d2")}
    assert spoken["d1"] == ["At", "nine."] and spoken["d2"][-3:] == ["was", "Maria", "Keller."]


async def test_a_long_tool_is_not_dead_air() -> None:
    """The foreground goes on with its own words, on time, while the work runs and while its result is read."""
    mind = told(report=(9.0, ["The report says that all of the seven towers were repaired in spring."]))
    talk = await converse(
        [(1.0, "please check the report")], BackgroundRoom(mind), seconds=24, every=("tick", 2.0, 2.0)
    )
    ticks = talk.said_at("tick")
    assert len(ticks) == 12
    assert all(abs(t - 2.0 * (k + 1)) <= 0.2 + 1e-6 for k, t in enumerate(ticks))
    read = [r["text"] for r in talk.records("agent", "said") if r.get("of") == "d1"]
    assert " ".join(read) == "The report says that all of the seven towers were repaired in spring."
    between = [r["t"] for r in talk.records("agent", "said") if r.get("of") == "d1"]
    assert any(between[0] < t < between[-1] for t in ticks), "the reading was to be interleaved with a reminder"


async def test_history_holds_only_speech_that_was_heard() -> None:
    long = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen."
    mind = told(count=(1.0, [long]), again=(0.5, ["Yes."]))
    says = [(1.0, "can you look up the count"), (6.0, "stop"), (8.0, "what did you say again")]
    talk = await converse(says, BackgroundRoom(mind), seconds=14)
    stopped = next(r for r in talk.records("agent", "stopped"))
    said = [r["text"] for r in talk.records("agent", "said") if r.get("of") == "d1"]
    assert 0 < len(said) < 15 and " ".join(said) + " " + stopped["unsaid"] == long
    assert all(r["t"] <= stopped["t"] for r in talk.records("agent", "said") if r.get("of") == "d1")
    package = mind.packages[-1]
    transcript = package.transcript()
    assert " ".join(said) in transcript and "fifteen" not in transcript
    assert ("unsaid", stopped["unsaid"]) in [(e.kind, e.data["text"]) for _, e in talk.ears.events("unsaid")]


async def test_a_stopped_rest_can_be_asked_for_and_is_otherwise_dropped() -> None:
    long = "One two three four five six seven eight nine and then there are eleven twelve thirteen and ten."
    says = [(1.0, "can you look up the count"), (6.0, "stop"), (9.0, "go on")]
    talk = await converse(says, BackgroundRoom(told(count=(1.0, [long]))), seconds=16)
    assert " ".join(r["text"] for r in talk.records("agent", "said") if r.get("of") == "d1") == long
    assert talk.states() == {"d1": "delivered"}
    talk = await converse(says[:2], BackgroundRoom(told(count=(1.0, [long]))), seconds=42)
    dropped = talk.records("background", "dropped")[0]
    assert dropped["reason"] == "stopped" and dropped["unsaid"].endswith("ten.") and dropped["t"] < 40


async def test_a_backchannel_does_not_cut_a_result_and_mere_talk_only_delays_it() -> None:
    long = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."
    mind = told(count=(1.0, [long]))
    talk = await converse([(1.0, "can you look up the count"), (6.2, "mhm yeah")], BackgroundRoom(mind), seconds=14)
    assert not talk.records("agent", "stopped") and talk.states() == {"d1": "delivered"}
    says = [(1.0, "can you look up the count"), (6.2, "the window is open here")]
    talk = await converse(says, BackgroundRoom(told(count=(1.0, [long]))), seconds=22)
    assert talk.records("agent", "stopped")[0]["reason"] == "interrupted"
    assert " ".join(r["text"] for r in talk.records("agent", "said") if r.get("of") == "d1") == long


async def test_a_result_cut_off_by_another_question_is_still_spoken_after_it() -> None:
    mind = told(count=(1.0, ["There are two hundred and six bones in it all."]), tower=(0.6, ["Maria Keller."]))
    says = [(1.0, "can you look up the count"), (5.4, "who built the lantern tower")]
    talk = await converse(says, BackgroundRoom(mind), seconds=24)
    said = talk.said()
    assert said.index("Maria Keller.") < said.rindex("There are two hundred and six bones in it all.")
    assert talk.states() == {"d1": "delivered", "d2": "delivered"}


async def test_steady_noise_does_not_keep_a_result_unspoken() -> None:
    mind = told(france=(1.0, ["Paris is the capital."]))
    talk = await converse([(1.0, "what is the capital of france")], BackgroundRoom(mind), seconds=24, noise=0.05)
    assert "Paris is the capital." in talk.said()


async def test_what_is_unspoken_at_the_end_is_on_the_record() -> None:
    mind = told(train=(3.0, ["The next train leaves at nine in the morning."]), tower=(60.0, ["x"]))
    says = [(1.0, "when does the next train leave"), (3.8, "who built the lantern tower")]
    talk = await converse(says, BackgroundRoom(mind), seconds=7.4)
    dropped = {r["id"]: r for r in talk.records("background", "dropped")}
    assert dropped["d1"]["unsaid"] and dropped["d1"]["reason"] == dropped["d2"]["reason"] == "session closed"
    assert mind.cancelled == ["who built the lantern tower"]


# steering and asking back


class Shopper:
    """A long task that takes what the person says into account, and asks back."""

    name = "shopper"
    abilities = Abilities(instant=True)

    async def work(self, work: Work) -> AsyncIterator[Piece]:
        work.progress("comparing two rooms")
        wish = " ".join(await work.wait_heard())
        answer = await work.ask("Which city?")
        yield Piece(f"I took the {'cheap' if 'cheaper' in wish else 'large'} room in {answer}.")

    async def close(self) -> None: ...


async def test_what_is_said_meanwhile_steers_the_work_and_the_work_asks_back() -> None:
    says = [(1.0, "can you book a room for tonight"), (4.0, "are you still looking"), (7.0, "no the cheaper one")]
    talk = await converse([*says, (12.0, "lisbon")], BackgroundRoom(Shopper()), seconds=22)
    said = talk.said()
    assert "Still on it. Comparing two rooms." in said and "Which city?" in said
    assert said.endswith("I took the cheap room in lisbon.") and talk.states() == {"d1": "delivered"}


# a foreground that delegates itself


async def test_a_delegating_foreground_decides_when_and_hears_itself_say_it() -> None:
    mind = told(france=(1.0, ["Paris is the capital."]))
    script = {17: {"actions": (DELEGATE,), "said": "hold"}, 40: {"actions": (DELIVER,)}}
    room = BackgroundRoom(mind)
    talk = await converse([(1.0, "what is the capital of france")], room, seconds=14, script=script, delegates=True)
    assert mind.started == ["what is the capital of france"]
    assert talk.said() == "hold Paris is the capital." and talk.said_at("Paris")[0] == pytest.approx(41 * 0.2)
    assert talk.ears.events("result")[0][1] == Event(
        "result", {"id": "d1", "text": "Paris is the capital.", "use": "speak"}
    )
    pending = [turn for turn, _ in talk.ears.events("pending")]
    busy = [turn for turn, _ in talk.ears.events("busy")]
    assert (
        pending[0] <= talk.ears.events("result")[0][0] + 1
        and pending[-1] == 40
        and busy == [41, 42, 43, 44][: len(busy)]
    )
    assert " ".join(e.data["text"] for _, e in talk.ears.events("said")) == "Paris is the capital."


async def test_yield_cuts_the_voice_in_the_same_micro_turn() -> None:
    mind = told(count=(1.0, ["One two three four five six seven eight nine ten."]))
    script = {12: {"actions": (DELEGATE,)}, 30: {"actions": (DELIVER,)}, 33: {"actions": (YIELD,)}}
    talk = await converse([(1.0, "look up count")], BackgroundRoom(mind), seconds=10, script=script, delegates=True)
    assert talk.said() == "One two three" and talk.records("agent", "stopped")[0]["unsaid"].startswith("four five")


async def test_a_result_that_a_delegating_foreground_forgets_is_spoken_all_the_same() -> None:
    script = {17: {"actions": (DELEGATE,)}}
    room = BackgroundRoom(told(france=(1.0, ["Paris."])))
    talk = await converse([(1.0, "what is the capital of france")], room, seconds=26, script=script, delegates=True)
    assert talk.said() == "Paris." and talk.states() == {"d1": "delivered"}


async def test_the_delegator_stays_out_of_a_delegating_foregrounds_way() -> None:
    room = BackgroundRoom(told(france=(1.0, ["Paris."])))
    talk = await converse([(1.0, "what is the capital of france")], room, seconds=8, delegates=True)
    assert talk.said() == "" and not talk.states()


# the room


async def test_a_background_that_breaks_costs_one_sentence_and_not_the_session() -> None:
    class Broken(Told):
        async def work(self, work: Work) -> AsyncIterator[Piece]:
            yield Piece("It begins.")
            raise RuntimeError("secret detail of a provider")

    talk = await converse(
        [(1.0, "what is the capital of france")], BackgroundRoom(Broken(lambda q: (0, []))), seconds=12
    )
    assert talk.said().endswith("It begins. Something went wrong while I was looking.")
    assert "secret" not in talk.said() and talk.records("background", "failed")
    assert talk.records("system", "closed")[0]["reason"] == "ended"


async def test_too_many_at_a_time_let_the_oldest_go() -> None:
    from interplay.background import ContextPackage
    from interplay.core.timeline import Timeline

    mind, timeline = told(), Timeline()
    room = BackgroundRoom(mind, max_running=3)
    room.open(timeline, lambda: 0.0)
    for k in range(5):
        room.delegate(ContextPackage(f"question {k}"))
    assert [d.id for d in room.working] == ["d3", "d4", "d5"]
    await room.close()
    assert not room.live and all(d.state is State.DROPPED for d in room.delegations.values())


def test_states_move_forward_only() -> None:
    delegation = Delegation("d1", "q", 0.0)
    assert not delegation.move(State.DELIVERED) and delegation.move(State.RUNNING)
    assert delegation.move(State.SUPERSEDED)
    for state in State:
        assert not delegation.move(state)


async def test_the_package_is_the_conversation_and_not_a_query() -> None:
    mind = told(france=(0.5, ["Paris."]), spain=(0.5, ["Madrid."]))
    mind.abilities = Abilities(audio=True, images=True, instant=True)
    room = BackgroundRoom(mind, memory="The user is called Ada.", instructions="Answer briefly.")
    says = [(1.0, "what is the capital of france"), (6.0, "and what is the capital of spain")]
    await converse(says, room, seconds=12)
    package = mind.packages[-1]
    assert [line.who for line in package.lines] == ["user", "agent", "user"]
    assert "[1.6 s] user: what is the capital of france" in package.transcript()
    assert "agent: Let me see. Paris." in package.transcript()
    assert package.memory == "The user is called Ada." and package.instructions == "Answer briefly."
    assert package.audio.dtype == np.float32 and package.audio.shape == (round(package.asked_s * 16_000),)


def test_a_transcript_from_a_timeline_leaves_out_what_was_cut_off() -> None:
    records = [
        {"t": 1.0, "turn": 4, "lane": "user", "kind": "heard", "text": "hello"},
        {"t": 1.2, "turn": 5, "lane": "agent", "kind": "said", "text": "hi"},
        {"t": 1.4, "turn": 6, "lane": "agent", "kind": "stopped", "reason": "yield", "unsaid": "there friend"},
        {"t": 9.0, "turn": 44, "lane": "user", "kind": "heard", "text": "again"},
        {"t": 9.1, "turn": 45, "lane": "user", "kind": "text", "text": "typed this"},
    ]
    assert [(line.who, line.text, line.typed) for line in lines_of(records)] == [
        ("user", "hello", False),
        ("agent", "hi", False),
        ("user", "again", False),
        ("user", "typed this", True),
    ]


# judgement


@pytest.mark.parametrize(
    ("new", "old", "how"),
    [
        ("what is the capital of france", "what is the capital of france", "repeats"),
        ("what's the capital of France?", "what is the capital of france", "repeats"),
        ("what is seventeen times twenty three", "what is seventeen times twenty", "replaces"),
        ("no i meant the capital of spain", "what is the capital of france", "replaces"),
        ("what is seventeen times twenty four", "what is seventeen times twenty three", "replaces"),
        ("and what is the capital of spain", "what is the capital of france", "beside"),
        ("who built the lantern tower", "what is seventeen times twenty three", "beside"),
        ("what is two plus two", "what is seventeen times three", "beside"),
    ],
)
def test_how_a_question_stands_to_another(new: str, old: str, how: str) -> None:
    assert relation(new, old) == how


def test_a_late_result_is_judged_by_what_was_said_meanwhile() -> None:
    delegation = Delegation("d1", "what is the capital of france", 10.0)
    chatter = Line(20.0, "user", "so yesterday we went to the market and it was full of people all day long", 25.0)
    assert judge(delegation, "Paris.", 12.0, []).use == "speak"
    assert judge(delegation, "Paris.", 14.0, [Line(12.0, "user", "oh it is paris of course", 13.0)]).use == "context"
    assert judge(delegation, "Paris.", 14.0, [Line(12.0, "user", "is it paris", 13.0)]).use == "speak"
    assert judge(delegation, "Paris.", 30.0, [chatter]).preface == "You asked: what is the capital of france."
    assert judge(delegation, "Paris.", 130.0, [chatter]).use == "context"
    assert judge(delegation, "Paris.", 130.0, []).use == "speak"
    assert judge(delegation, "Paris.", 12.0, [], others=1).preface
    delegation.move(State.RUNNING)
    delegation.move(State.DROPPED)
    assert judge(delegation, "Paris.", 12.0, []).use == "drop"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("never mind", Kind.WITHDRAW),
        ("no never mind forget it", Kind.WITHDRAW),
        ("are you still looking", Kind.PROGRESS),
        ("did you find anything yet", Kind.PROGRESS),
        ("no the cheaper one", Kind.CORRECTION),
        ("stop", Kind.STOP),
        ("go on", Kind.RESUME),
        ("mhm right", Kind.BACKCHANNEL),
        ("yes please", Kind.YES),
        ("what is the capital of france", Kind.QUESTION),
        ("the window is open", Kind.OTHER),
        ("say apple every five seconds", Kind.OTHER),
        ("when i say apple say bingo", Kind.OTHER),
        ("remind me in ten seconds to drink", Kind.OTHER),
        ("my mind is never at rest", Kind.OTHER),
    ],
)
def test_kinds_of_utterances(text: str, kind: Kind) -> None:
    assert classify(text) is kind


def test_a_question_is_complete_when_nothing_can_be_missing() -> None:
    assert not is_complete("what is seventeen times") and not is_complete("who wrote the") and not is_complete("what")
    assert is_complete("what is seventeen times three") and is_complete("who wrote the song")
    assert not is_question("every five seconds say apple") and is_question("can you look up the train")
    assert says_yes("yes go ahead") is True and says_yes("no don't") is False and says_yes("lisbon") is None


async def test_a_tool_call_of_the_foreground_runs_beside_the_conversation() -> None:
    from interplay.agents.tools import ToolBox, tool

    calls = []

    @tool
    async def timer(minutes: int) -> str:
        "Set a timer."
        calls.append(minutes)
        return "set"

    script = {5: {"actions": (Action("tool", {"name": "timer", "args": ["twenty", "five"]}),)}}
    room = BackgroundRoom(EmbeddedBackground(), ToolBox([timer]))
    talk = await converse([], room, seconds=4, script=script, delegates=True)
    assert calls == [25] and talk.said() == "" and talk.states() == {"d1": "delivered"}
    assert talk.ears.events("result")[0][1].data == {"id": "d1", "text": "set", "use": "context"}


async def test_real_time_is_never_waited_for() -> None:
    """A background that blocks for longer than the session is cancelled at its end, and no micro-turn was late."""
    from interplay.core.clock import RealClock

    class Slow(Told):
        abilities = Abilities()

        async def work(self, work: Work) -> AsyncIterator[Piece]:
            await asyncio.sleep(30)
            yield Piece("late")

    talk = await converse(
        [(0.2, "who built it")], BackgroundRoom(Slow(lambda q: (0, []))), seconds=2.4, clock=RealClock()
    )
    assert len(talk.surface.views) == 12 and not talk.records("system", "skipped")
    assert talk.states() == {"d1": "dropped"}
