"""Guardrails: functions that look at what goes to a provider and at what comes back, and may refuse or replace it.

A function of your own, named by `use = "package.module:function"`, takes the text and a `Look` and returns None (fine),
another text (use this instead), or raises `Refused("why")`. It may be async. It has two seconds; one that fails or
takes longer refuses, because a guard that sleeps guards nothing.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from interplay.core.types import BadInput
from interplay.gateway.contract import Caller
from interplay.gateway.policy.config import GuardSection

GUARD_S = 2.0


class Refused(Exception):
    """Raised by a guard: this text must not pass. The message is shown to the caller, so it must not quote the text."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a guard knows beside the text. Texts that come back arrive a sentence at a time."""

    caller: Caller
    when: Literal["before", "after"]


Hook = Callable[[str, Look], str | Awaitable[str | None] | None]


@dataclass(frozen=True, slots=True)
class Guard:
    """A guardrail ready to run."""

    name: str
    when: tuple[str, ...]
    hook: Hook

    async def look(self, text: str, look: Look) -> str:
        """The text to go on with. Raises Refused."""
        try:
            answer = self.hook(text, look)
            if inspect.isawaitable(answer):
                answer = await asyncio.wait_for(answer, GUARD_S)
        except Refused:
            raise
        except TimeoutError:
            raise Refused(f"the guardrail {self.name} took longer than {GUARD_S:.0f} s") from None
        except Exception as error:
            raise Refused(f"the guardrail {self.name} failed ({type(error).__name__})") from error
        if answer is not None and not isinstance(answer, str):
            raise Refused(f"the guardrail {self.name} returned {type(answer).__name__} instead of text")
        return text if answer is None else answer


def build(section: GuardSection) -> Guard:
    """A guard from its config. Raises BadInput if `use` names nothing that can be called."""
    return Guard(section.name, section.when, _hook(section))


def _hook(section: GuardSection) -> Hook:
    if section.use:
        return _imported(section.use)
    if section.max_chars:
        limit = section.max_chars

        def short_enough(text: str, look: Look) -> None:
            if len(text) > limit:
                raise Refused(f"more than {limit} characters")

        return short_enough
    source = section.pattern or r"(?<!\w)(?:" + "|".join(map(re.escape, section.words)) + r")(?!\w)"
    pattern = re.compile(source, re.IGNORECASE)

    def clean(text: str, look: Look) -> None:
        if pattern.search(text):
            raise Refused("it contains what is not allowed here")

    return clean


def _imported(path: str) -> Hook:
    module, _, name = path.partition(":")
    try:
        hook: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"the guardrail {path!r} cannot be loaded: {error}") from error
    if not callable(hook):
        raise BadInput(f"the guardrail {path!r} is not a function")
    return cast(Hook, hook)
