"""The clock: what time and which day it is where the agent runs, or in a named time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from interplay.agents.tools.tool import Tool, ToolError, tool

DAYS = {"today": 0, "tomorrow": 1, "yesterday": -1, "the day after tomorrow": 2}


def clock(now: Callable[[], datetime] | None = None) -> Tool:
    """The tool. now: what time it is; default: the machine's clock in its own zone."""
    moment = now or (lambda: datetime.now().astimezone())

    @tool(name="clock")
    def tell(what: str = "time", day: str = "today", place: str = "") -> str:
        """The time, date or weekday. what: "time", "date" or "weekday"; day: "today", "tomorrow", "yesterday"; place: a
        city or time zone such as "Tokyo" or "Europe/Paris", empty for here."""
        if day not in DAYS:
            raise ToolError("I can tell today, tomorrow and yesterday.")
        at = (moment().astimezone(_zone(place)) if place else moment()) + timedelta(days=DAYS[day])
        is_ = "was" if DAYS[day] < 0 else "is"
        if what == "time" and day == "today":
            return f"It is {spoken_time(at)}{' in ' + place.split('/')[-1].title() if place else ''}."
        if what == "weekday":
            return f"{day.capitalize()} {is_} {at:%A}."
        return f"{day.capitalize()} {is_} {at:%A}, {at:%B} {at.day}, {at.year}."

    return tell


def spoken_time(at: datetime) -> str:
    """14:05 as "2:05 PM"."""
    return f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"


def _zone(place: str) -> ZoneInfo:
    wanted = place.strip().lower().replace(" ", "_")
    for name in sorted(available_timezones()):
        if wanted in (name.lower(), name.rsplit("/", 1)[-1].lower()):
            return ZoneInfo(name)
    raise ToolError(f"I do not know what time it is in {place[:40]}.")
