"""When a spoken phrase means: "tomorrow at half past five", "in twenty minutes", "every day at nine".

A small grammar of English as it is heard (numbers as words, no punctuation) or typed. What it does not know it leaves
alone: no time at all is better than a wrong one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo


def _each(text: str) -> list[str]:
    return text.split()


_ONES = _each(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = _each("twenty thirty forty fifty sixty seventy eighty ninety")
_MONTHS = _each("january february march april may june july august september october november december")
_DAYS = _each("monday tuesday wednesday thursday friday saturday sunday")
_NTH = _each(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ORDINALS = {word: n for n, word in enumerate(_NTH, 1)}
_ORDINALS |= {f"twenty {word}": 20 + n for n, word in enumerate(_NTH[:9], 1)} | {"thirtieth": 30, "thirty first": 31}
_NUMBERS = {word: n for n, word in enumerate(_ONES)} | {
    f"{tens} {one}" if one else tens: 10 * t + o
    for t, tens in enumerate(_TENS, 2)
    for o, one in enumerate(["", *_ONES[1:10]])
}
_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_PARTS = {"morning": 9, "noon": 12, "midday": 12, "lunchtime": 12, "afternoon": 15, "evening": 19, "night": 21}


def _either(words: object) -> str:
    return "|".join(sorted((re.escape(str(word)) for word in words), key=len, reverse=True))  # type: ignore[attr-defined]


NUM = rf"(?:\d{{1,4}}|{_either(_NUMBERS)})"
HOUR = rf"(?:\d{{1,2}}|{_either(_ONES[1:13])})"
MINUTE = rf"oh (?:{_either(_ONES[1:10])})|{_either(list(_NUMBERS)[10:])}"
PART = _either(_PARTS)
HALF = r"(?P<half>am|pm|a\.m\.?|p\.m\.?|a m|p m|in the morning|in the afternoon|in the evening|at night)"
CLOCK = (
    rf"(?:(?P<exact>noon|midday|midnight)"
    rf"|(?P<offset>half|a quarter|quarter|{NUM})(?: minutes?)? (?P<side>past|to) (?P<past_hour>{HOUR})"
    rf"|(?P<hour>{HOUR})(?:[:.](?P<mm>[0-5]\d)| (?P<minute>{MINUTE}))?"
    rf"(?: o'?clock)?)(?: {HALF}\b)?"
)
ORDINAL = rf"(?:\d{{1,2}}(?:st|nd|rd|th)?|{_either(_ORDINALS)})"
DAY = (
    rf"(?:(?P<rel>the day after tomorrow|day after tomorrow|tomorrow|today|tonight|next week)"
    rf"|(?:on |next |this |on next )?(?P<weekday>{_either(_DAYS)})"
    rf"|(?P<iso>\d{{4}}-\d\d-\d\d)"
    rf"|(?:on )?(?:the )?(?P<dom>{ORDINAL}) of (?P<month>{_either(_MONTHS)})"
    rf"|(?:on )?(?P<month2>{_either(_MONTHS)}) (?:the )?(?P<dom2>{ORDINAL}))"
)
SPAN = (
    rf"(?:half an hour|(?:a )?quarter of an hour|three quarters of an hour|an hour and a half"
    rf"|(?P<n>an?|a couple of|a few|{NUM})(?P<and_half> and a half)? (?P<unit>second|minute|hour|day|week)s?)"
)
RE_RELATIVE = re.compile(rf"\b(?:in|after) (?P<span>{SPAN})(?: (?:from now|time))?\b")
RE_EVERY = re.compile(
    rf"\b(?:every|each) (?:(?P<other>other )?(?:(?P<en>{NUM}) )?(?P<eunit>second|minute|hour|day|week)s?"
    rf"|(?P<epart>morning|noon|afternoon|evening|night)|(?P<eday>{_either(_DAYS)}))\b"
)
RE_DAY = re.compile(rf"\b{DAY}(?: (?:in the )?(?P<part>{PART}))?\b")
RE_PART = re.compile(rf"\b(?:this|in the) (?P<part>{PART})\b")
RE_CLOCK = re.compile(rf"\b(?:at|by|around) {CLOCK}(?![\w:])")
RE_EXACT = re.compile(r"\bat (?P<h>\d{1,2}):(?P<m>\d\d)\b")


@dataclass(frozen=True, slots=True)
class When:
    """due: the point in time, aware, or None. every_s: seconds between repetitions, or None. rest: the other words."""

    due: datetime | None
    every_s: float | None
    rest: str


class LocalZone(tzinfo):
    """The zone of this machine with its rules for summer time, which a fixed offset does not know."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        local = dt.replace(tzinfo=UTC).astimezone()
        return local.replace(tzinfo=self)


def find(text: str, now: datetime) -> When:
    """The time that `text` names, seen from `now` (aware; its zone is the speaker's)."""
    if now.tzinfo is None:
        raise ValueError("now needs a zone")
    rest = " ".join(text.lower().replace("-", " ").split()) if not re.search(r"\d{4}-\d\d-\d\d", text) else text.lower()
    every, anchor, rest = _every(rest, now)
    match = RE_RELATIVE.search(rest)
    if match is not None and every is None:
        return When(_later(now, match), None, _cut(rest, match))
    day, part, rest = _day(rest, now)
    often = every is not None and every < 86_400 and day is None
    clock = None if often else RE_CLOCK.search(rest)
    if clock is not None:
        rest = _cut(rest, clock)
    if anchor is not None and day is None:
        day, part = anchor
    if day is None and clock is None:
        return When(now + timedelta(seconds=every) if every is not None else None, every, rest)
    daily = every is not None
    due = _at(day, part, clock, now, daily=daily)
    if due is not None and every is not None and due <= now:
        due += timedelta(seconds=every)
    return When(due, every, rest)


def shifted(moment: datetime, seconds: float) -> datetime:
    """`seconds` of real time later, in the same zone."""
    return (moment.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(moment.tzinfo)


def say(due: datetime, now: datetime) -> str:
    """A point in time as a few plain words, seen from `now`: "tomorrow at nine", "overdue"."""
    due = due.astimezone(now.tzinfo)
    if due <= now:
        return "overdue"
    days = (due.date() - now.date()).days
    if days == 0:
        day = "today"
    elif days == 1:
        day = "tomorrow"
    elif days < 7:
        day = _DAYS[due.weekday()]
    else:
        day = f"{_MONTHS[due.month - 1]} {_words(due.day)}"
    return f"{day} at {clock_words(due)}"


def say_every(seconds: float) -> str:
    """A repetition as words: "every three seconds", "every day"."""
    for unit in ("week", "day", "hour", "minute", "second"):
        count = seconds / _UNITS[unit]
        if count >= 1 and count == int(count):
            many = _words(int(count)) if count < 60 else f"{count:g}"
            return f"every {unit}" if count == 1 else f"every {many} {unit}s"
    return f"every {seconds:g} seconds"


def clock_words(at: datetime) -> str:
    """17:30 as "five thirty pm": words that are easy to hear and to match."""
    if at.minute == 0 and at.hour in (0, 12):
        return "noon" if at.hour else "midnight"
    hour, half = _words((at.hour - 1) % 12 + 1), "am" if at.hour < 12 else "pm"
    minute = "" if at.minute == 0 else f" oh {_words(at.minute)}" if at.minute < 10 else f" {_words(at.minute)}"
    return f"{hour}{minute} {half}"


def _every(text: str, now: datetime) -> tuple[float | None, tuple[datetime, int | None] | None, str]:
    """(seconds between, (first day, its hour) where one is named, the rest)."""
    match = RE_EVERY.search(text)
    if match is None:
        return None, None, text
    rest = _cut(text, match)
    if match["epart"]:
        return 86_400.0, (now, _PARTS[match["epart"]]), rest
    if match["eday"]:
        return 604_800.0, (_weekday(match["eday"], now), None), rest
    count = (2 if match["other"] else 1) * (_number(match["en"]) if match["en"] else 1)
    seconds = float(count * _UNITS[match["eunit"]])
    clocked = seconds >= 86_400 and RE_CLOCK.search(rest) is not None
    return seconds, ((now, None) if clocked else None), rest


def _day(text: str, now: datetime) -> tuple[datetime | None, int | None, str]:
    match = RE_DAY.search(text)
    if match is None:
        part = RE_PART.search(text)
        return (now, _PARTS[part["part"]], _cut(text, part)) if part is not None else (None, None, text)
    part = _PARTS[match["part"]] if match["part"] else None
    rest = _cut(text, match)
    if match["rel"]:
        ahead = {"today": 0, "tonight": 0, "tomorrow": 1, "next week": 7}.get(match["rel"], 2)
        return now + timedelta(days=ahead), 20 if match["rel"] == "tonight" else part, rest
    if match["weekday"]:
        return _weekday(match["weekday"], now), part, rest
    try:
        if match["iso"]:
            day = datetime.fromisoformat(match["iso"])
            return now.replace(year=day.year, month=day.month, day=day.day), part, rest
        month = _MONTHS.index(match["month"] or match["month2"]) + 1
        day = now.replace(month=month, day=_ordinal(match["dom"] or match["dom2"]))
        return (day if day.date() >= now.date() else day.replace(year=day.year + 1)), part, rest
    except ValueError:  # the thirty first of june
        return None, None, text


def _at(
    day: datetime | None, part: int | None, clock: re.Match[str] | None, now: datetime, *, daily: bool
) -> datetime | None:
    if clock is None:
        assert day is not None
        due = _local(day, 9 if part is None else part, 0)
        return due if due > now else now + timedelta(hours=1) if day.date() == now.date() and part is None else due
    hour, minute, sure = _clock(clock)
    if minute < 0:
        hour, minute = hour - 1, minute + 60
    if not 0 <= hour <= 24 or minute > 59:
        return None
    if not sure and part is not None:
        hour, sure = (hour + 12 if part >= 12 and hour < 12 else hour), True
    base = day or now
    if sure:
        due = _local(base, hour % 24, minute)
        return due + timedelta(days=1) if due <= now and day is None else due
    if base.date() == now.date() and not daily:
        today = [_local(base, h % 24, minute) for h in (hour, hour + 12)]
        later = [due for due in today if due > now]
        return min(later) if later else today[0] + timedelta(days=1)
    return _local(base, hour + 12 if 1 <= hour <= 6 else hour, minute)


def _clock(match: re.Match[str]) -> tuple[int, int, bool]:
    """(hour, minute, whether the half of the day is certain)."""
    half = (match["half"] or "").replace(".", "").replace(" ", "")
    if match["exact"]:
        return (0 if match["exact"] == "midnight" else 12), 0, True
    if match["past_hour"]:
        hour = _number(match["past_hour"])
        offset = {"half": 30, "quarter": 15, "a quarter": 15}.get(match["offset"]) or _number(match["offset"])
        minute = offset if match["side"] == "past" else -offset
    else:
        hour = _number(match["hour"])
        spoken = (match["minute"] or "").removeprefix("oh ")
        minute = int(match["mm"]) if match["mm"] else _number(spoken) if spoken else 0
    if half in ("pm", "intheafternoon", "intheevening", "atnight"):
        return (hour + 12 if hour < 12 else hour), minute, True
    if half:
        return (0 if hour == 12 else hour), minute, True
    return hour, minute, bool(match["mm"] and len(match["hour"]) == 2) or hour > 12 or hour == 0


def _later(now: datetime, match: re.Match[str]) -> datetime:
    """Days keep the time of day when the clocks change in between; hours are hours."""
    span = match["span"]
    if match["unit"] is None:
        seconds = {"half": 1_800.0, "three": 2_700.0, "an": 5_400.0}.get(span.split()[0], 900.0)
    else:
        count = {"a": 1, "an": 1, "a couple of": 2, "a few": 3}.get(match["n"]) or _number(match["n"])
        seconds = (count + (0.5 if match["and_half"] else 0)) * _UNITS[match["unit"]]
    if match["unit"] in ("day", "week"):
        return now + timedelta(seconds=seconds)
    return shifted(now, seconds)


def _weekday(name: str, now: datetime) -> datetime:
    return now + timedelta(days=(_DAYS.index(name) - now.weekday() - 1) % 7 + 1)


def _local(day: datetime, hour: int, minute: int) -> datetime:
    """That wall-clock time of that day, also when the clocks change in between."""
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text]


def _ordinal(text: str) -> int:
    digits = text.rstrip("stndrh")
    return int(digits) if digits.isdigit() else _ORDINALS[text]


def _words(number: int) -> str:
    return next(word for word, n in _NUMBERS.items() if n == number)


def _cut(text: str, match: re.Match[str]) -> str:
    return " ".join((text[: match.start()] + " " + text[match.end() :]).split())
