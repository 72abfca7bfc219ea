"""Memory without a model: facts, promises and reminders that people say in so many words.

It reads what was heard (lower case, no punctuation) and what was typed. It takes only what is said outright: a fact
that is missed can be told again, one that is invented is hard to get rid of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from interplay.agents import when
from interplay.agents.transcript import Line

MERGE_S = 5.0  # "remind me tomorrow" ... "to buy milk"
MAX_ITEM_CHARS = 200


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to remember. block: "user", "promise" or "reminder". key: what it replaces if it is there already.

    gone: it is not true any more. t, t_end: session seconds of the words it comes from.
    """

    block: str
    key: str
    text: str
    due: datetime | None = None
    every_s: float | None = None
    t: float | None = None
    gone: bool = False
    t_end: float | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a session leaves in memory. done: ids of items that were open and are settled. summary: a few sentences."""

    notes: tuple[Note, ...] = ()
    done: tuple[str, ...] = ()
    summary: str = ""


_STOP = set(
    re.findall(
        r"\S+",
        "and but i you so what not is are am the a an from in please remind my me we because or if that this it to can "
        "could would will do don't for with now today here there how why when where who thanks thank at on of just "
        "really very also too then okay ok yes no well say tell count stop every everyone nobody",
    )
)
_STARTS = r"please |then |can you |could you |i |i'm |i'll |my |remind |call me |don't "
_CLAUSES = re.compile(rf"[.!?;\n,]+\s*|\s+(?:and|but|also|so)\s+(?=(?:{_STARTS}))|\s+because\s+")
# What turns a statement into a question, a report or a supposition. Looked for just before the statement.
_UNSURE = re.compile(
    r"\b(?:if|whether|when|said|says|say|think|thinks|thought|pretend|imagine|suppose|like|did|does|do|should|would|"
    r"where|who|what|why|how|could|can|was|guess|wish|hope|not|don't|never|told \w+|tell me)\s+(?:that\s+|is\s+)?$"
)
_NAME = r"(?P<v>[\w'’-]+(?: [\w'’-]+){0,3})"
_REST = r"(?P<v>.+)"
_NO_NAMES = {"back", "later", "again", "tomorrow", "tonight", "soon", "maybe", "anytime", "crazy", "names", "whatever"}
_KIN = ("wife|husband|partner|girlfriend|boyfriend|daughter|son|mother|mum|mom|father|dad|sister|brother|grandmother|"
        "grandfather|dog|cat|boss|friend|colleague|doctor|teacher")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fact:
    pattern: re.Pattern[str]
    key: str  # may use {k} and {v}
    text: str
    words: int = 8
    name: bool = False


def _fact(pattern: str, key: str, text: str, words: int = 8, *, name: bool = False) -> _Fact:
    return _Fact(re.compile(rf"\b(?:{pattern})", re.IGNORECASE), key, text, words, name)


_CALLED = "my name is|my name's|i am called|i'm called"
_KIN_CALLED = "'s name is| is called| is named|'s called"
_LIVE = "live|moved to live|am living|moved"
_TASTE = "like|love|enjoy|prefer|hate|dislike|can't stand"

FACTS = (
    _fact(rf"(?:{_CALLED}) {_NAME}", "name", "name is {v}", 3, name=True),
    _fact(rf"(?:you can |please )?call me {_NAME}$", "name", "name is {v}", 3, name=True),
    _fact(rf"my (?P<k>{_KIN})(?:{_KIN_CALLED}) {_NAME}", "{k}", "{k} is called {v}", 3, name=True),
    _fact(rf"i (?:now |just )?(?:{_LIVE}) (?:in|to|near) {_REST}", "home", "lives in {v}", 4),
    _fact(rf"(?:i am|i'm|i come) (?:originally )?from {_REST}", "origin", "comes from {v}", 4),
    _fact(rf"i work (?P<k>as|at|for|in) {_REST}", "work {k}", "works {k} {v}", 5),
    _fact(rf"my birthday is (?:on )?{_REST}", "birthday", "birthday is {v}", 5),
    _fact(r"(?:i am|i'm) (?P<v>[\w-]+(?: [\w-]+)?) years old", "age", "is {v} years old", 2),
    _fact(rf"(?:i am|i'm) allergic to {_REST}", "allergic {v}", "is allergic to {v}", 4),
    _fact(r"(?:i am|i'm) (?:a )?(?P<v>vegetarian|vegan|diabetic|left handed|deaf|blind)", "is {v}", "is {v}", 2),
    _fact(rf"my favou?rite (?P<k>\w+(?: \w+)?) is {_REST}", "favourite {k}", "favourite {k} is {v}", 5),
    _fact(rf"i (?:really |also )?(?P<k>{_TASTE}) {_REST}", "taste {v}", "{k}s {v}", 5),
    _fact(rf"i (?:don't|do not) (?P<k>like|eat|drink) {_REST}", "taste {v}", "does not {k} {v}", 5),
    _fact(r"i (?:speak|am learning|'m learning) (?P<v>[a-z]+)", "speaks {v}", "speaks {v}", 1),
)
GONE = (
    _fact(rf"i (?:don't|do not|no longer) live in {_REST} ?(?:any ?more)?", "home", "", 4),
    _fact(rf"i (?:don't|do not|no longer) work (?P<k>as|at|for|in) {_REST} ?(?:any ?more)?", "work {k}", "", 5),
)

_REMIND = re.compile(
    r"\b(?:remind me|set (?:me )?(?:a|another) reminder|(?:don't|do not) let me forget)\b(?P<rest>.*)", re.IGNORECASE
)
_NOT_REMIND = re.compile(r"\b(?:don't|do not|never|stop|no need to|did you|do you) (?:ever )?$", re.IGNORECASE)
_ASK = "say|tell me|ask me"
_NAG = re.compile(rf"\b(?P<rest>(?:{_ASK}|count|check on me)\b.*\bevery\b.*|every\b.*\b(?:{_ASK})\b.*)", re.IGNORECASE)
_STOP_REMIND = re.compile(
    r"\b(?:stop reminding me|(?:don't|do not) remind me|no need to remind me"
    r"|(?:cancel|forget|delete) (?:the|my|that) reminder)\b(?P<rest>.*)",
    re.IGNORECASE,
)
_PROMISE = re.compile(
    r"\b(?P<verb>i will|i'll|i promise(?: you)?(?: that i will| that i'll| to)?|i am going to|i'm going to)"
    r" (?P<rest>.+)",
    re.IGNORECASE,
)
_EMPTY_PROMISE = re.compile(
    r"^(?:be (?:quiet|silent|here|right|back|listening)|listen|wait|stop|see|try|think|say|tell you when|let you know|"
    r"remind you|count|do that|have to|never|not|always be|just|check that for you|start|speak|now)\b",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"\b(?:i (?:have |already |just )*(?:did|done|finished|bought|called|sent|paid|made)|never mind)\b(?P<rest>.*)",
    re.IGNORECASE,
)


class PlainWriter:
    """Writes memory by pattern; needs nothing. See `MemoryWriter` in writer.py for the contract."""

    name = "plain"

    async def write(
        self, lines: Sequence[Line], started: datetime, owed: Sequence[str], open_items: Sequence[Open]
    ) -> Extraction:
        return extract(lines, started, owed, open_items)


@dataclass(frozen=True, slots=True)
class Open:
    """An item that was open before the session: what may be settled by it."""

    id: str
    block: str
    text: str
    due: datetime | None = None


def extract(lines: Sequence[Line], started: datetime, owed: Sequence[str], open_items: Sequence[Open]) -> Extraction:
    """Notes from what was said and heard. started: aware, in the user's zone; dates are reckoned from it.

    owed: questions that the background had not answered when the session ended.
    """
    notes: dict[tuple[str, str], Note] = {}
    done: list[str] = []
    for line in _merged(lines):
        now = when.shifted(started, line.t)
        for clause in _clauses(line.text):
            for note in _read(line.who, clause, line.t, now):
                notes.pop((note.block, note.key), None)  # the newest stays last
                notes[note.block, note.key] = replace(note, t_end=line.end)
        done += _settled(line, now, open_items)
        for key in _cancelled(line, notes):
            del notes[key]
    for question in owed:
        text = f"answer {_short(question, 12)}"
        notes.setdefault(("promise", slug(text)), Note("promise", slug(text), text))
    return Extraction(tuple(notes.values()), tuple(dict.fromkeys(done)))


def reminders(lines: Sequence[Line], started: datetime) -> list[Note]:
    """Only the reminders, for a session that is still going on."""
    return [note for note in extract(lines, started, (), ()).notes if note.block == "reminder"]


def slug(text: str) -> str:
    """The key of a text: its words, lower case, at most 80 characters."""
    return " ".join(re.findall(r"[\w']+", text.lower()))[:80]


def content(text: str) -> set[str]:
    """The words of a text that say what it is about."""
    return {_stem(word) for word in re.findall(r"[\w']+", text.lower()) if word not in _STOP and len(word) > 2}


def _read(who: str, clause: str, t: float, now: datetime) -> list[Note]:
    if who == "agent":
        return _promise(clause, t, now, "")
    found = _reminder(clause, t, now)
    if found:
        # Heard without punctuation, "my name is ada" may stand before it in one breath.
        before = _REMIND.search(clause)
        return [*(_read(who, clause[: before.start()], t, now) if before is not None else ()), *found]
    notes = [note for fact in FACTS if (note := _match(fact, clause, t)) is not None][:1]
    gone = [note for fact in GONE if (note := _match(fact, clause, t, gone=True)) is not None]
    return gone or notes or _promise(clause, t, now, "user: ")


def _match(fact: _Fact, clause: str, t: float, *, gone: bool = False) -> Note | None:
    match = fact.pattern.search(clause)
    if match is None or _UNSURE.search(clause[: match.start()].lower()):
        return None
    value = _value(match["v"], fact.words, name=fact.name)
    if not value:
        return None
    groups = {"v": value, "k": (match.groupdict().get("k") or "").lower()}
    key = slug(fact.key.format(**{**groups, "v": value.lower()}))
    return Note("user", key, fact.text.format(**groups)[:MAX_ITEM_CHARS], t=t, gone=gone)


def _value(text: str, words: int, *, name: bool) -> str:
    """The first words of what follows, up to one that begins something else."""
    kept: list[str] = []
    for word in text.split():
        plain = word.lower().strip("'’")
        inside = kept and plain in ("the", "a", "an", "of", "at", "in", "for", "to", "with", "and") and not name
        opening = not kept and plain in ("the", "a", "an", "my", "to") and not name
        if len(kept) >= words or (plain in _STOP and not inside and not opening):
            break
        kept.append(word)
    if name and kept and kept[0].lower() in _NO_NAMES:
        return ""
    while kept and kept[-1].lower() in _STOP | {"anymore", "more"}:
        kept.pop()
    if name and len(kept) > 1 and not all(word[:1].isupper() for word in kept):
        kept = kept[:1]  # heard without capitals, the second word is as likely the next sentence
    return " ".join(kept)


def _reminder(clause: str, t: float, now: datetime) -> list[Note]:
    match = _REMIND.search(clause)
    if match is not None:
        # "don't let me forget" is one, "don't remind me" is none
        if _NOT_REMIND.search(clause[: match.start()]) or re.match(r" of\b", match["rest"], re.IGNORECASE):
            return []  # nor is "you remind me of my father"
        found = when.find(clause[: match.start()] + " \x00 " + match["rest"], now)
        before, _, after = found.rest.partition("\x00")
        text = _task(after) or _task(_UNSURE.sub("", before))
    else:
        match = _NAG.search(clause)
        if match is None:
            return []
        found = when.find(match["rest"], now)
        text = _task(found.rest)
        if found.every_s is None:
            return []
    text = text or "something you asked for"
    due = found.due
    key = slug(f"{text} every {found.every_s:g}" if found.every_s else text)
    return [Note("reminder", key, text[:MAX_ITEM_CHARS], due, found.every_s, t)]


def _task(text: str) -> str:
    text = re.sub(r"^(?:\s|,)*(?:again )?(?:please )?(?:to|that|about|of|for)\b\s*", "", text.strip())
    text = re.sub(r"\b(?:please|okay|ok|thanks|thank you|can you|could you|would you)\b", "", text)
    return " ".join(text.split()[:24]).strip(" ,.!?")


def _promise(clause: str, t: float, now: datetime, prefix: str) -> list[Note]:
    match = _PROMISE.search(clause)
    if match is None or _UNSURE.search(clause[: match.start()].lower()):
        return []
    rest = match["rest"].strip()
    if _EMPTY_PROMISE.match(rest):
        return []
    # What a person says they will do is a promise only if they say so; an agent's "I will" always is.
    if prefix and "promise" not in match["verb"].lower():
        return []
    found = when.find(rest, now)
    text = " ".join(found.rest.split()[:24])
    return [Note("promise", slug(prefix + text), (prefix + text)[:MAX_ITEM_CHARS], found.due, None, t)] if text else []


def _settled(line: Line, now: datetime, open_items: Sequence[Open]) -> list[str]:
    """Reminders that the agent gave when they were due; anything that the person says is done or to be left."""
    done = []
    said = content(line.text)
    over = _DONE.search(line.text) if line.who == "user" else None
    stop = _STOP_REMIND.search(line.text) if line.who == "user" else None
    for item in open_items:
        about = content(item.text.removeprefix("user: ").removeprefix("answer "))
        share = len(about & said) / len(about) if about else 0.0
        by_agent = line.who == "agent" and (
            (item.block == "reminder" and item.due is not None and item.due <= now and share >= 0.6)
            or (item.block == "promise" and len(about) > 1 and share >= 0.75 and not _PROMISE.search(line.text))
        )
        by_user = over is not None and item.block != "user" and share >= 0.6
        called_off = stop is not None and item.block == "reminder" and (share >= 0.6 or not content(stop["rest"]))
        if by_agent or by_user or called_off:
            done.append(item.id)
    return done


def _cancelled(line: Line, notes: dict[tuple[str, str], Note]) -> list[tuple[str, str]]:
    """Reminders of this very session that the person takes back."""
    stop = _STOP_REMIND.search(line.text) if line.who == "user" else None
    if stop is None:
        return []
    about = content(stop["rest"])
    return [
        key for key, note in notes.items()
        if note.block == "reminder" and note.t != line.t and (not about or about & content(note.text))
    ]  # fmt: skip


def _merged(lines: Sequence[Line]) -> list[Line]:
    """Lines of one side that follow each other after a short pause are one thought."""
    out: list[Line] = []
    for line in lines:
        last = out[-1] if out else None
        if last is not None and last.who == line.who and line.t - last.end < MERGE_S and _hangs(last.text, line.text):
            out[-1] = Line(line.who, last.t, line.end, f"{last.text} {line.text}")
        else:
            out.append(line)
    return out


def _hangs(first: str, second: str) -> bool:
    """Whether the second line goes on where the first broke off."""
    return bool(re.match(r"(?:to|that|about|in|at|on|tomorrow|every|for|is|of)\b", second, re.IGNORECASE)) or bool(
        re.search(r"\b(?:to|is|me|that|my|in|at|the|a|every|and|called)$", first, re.IGNORECASE)
    )


def _clauses(text: str) -> list[str]:
    # a decimal point or a clock's colon is no end of a sentence; ", " inside a time neither
    return [part.strip() for part in _CLAUSES.split(text) if part and part.strip()]


def _short(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|'s)$", "", word) if len(word) > 4 else word
