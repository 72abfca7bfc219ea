"""Reminders, cues, stopwatch and stop in looser words: openers, verbs and ways to say when, put together at random.

Training draws them beside the sentences of forms.py, so that a model learns the parts of a request and not two dozen
sentences by heart. {ask}, {say} and so on stand for one of the alternatives below; "" is one, too. The bench asks in
the sentences of forms.py; its held-out ones are never put together here (`write_request` checks each).
"""

from __future__ import annotations

import random
import re

_ASK = (
    "", "", "", "please", "can you", "could you", "would you", "will you", "could you please", "i want you to",
    "i need you to", "i would like you to", "you can", "you should", "just", "now", "so", "hey", "try to", "okay",
    "do me a favor and", "maybe you can", "be so kind and", "listen", "well", "next",
)  # fmt: skip
_SAY = (
    "say", "say", "say", "say the word", "tell me", "give me", "call out", "shout", "let me hear", "announce", "speak",
    "say out loud", "read out", "mention", "whisper", "yell", "reply with", "respond with", "come up with", "pronounce",
    "sing", "state", "put in", "answer", "answer with",
)  # fmt: skip
_END = ("", "", "", "", "please", "for me", "now", "okay", "thanks", "if you can", "would you", "my friend")
_STOPWATCH = ("the stopwatch", "the clock", "timing", "measuring", "counting the seconds")
ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "ask": _ASK,
    "say": _SAY,
    "remind": (*_SAY, "remind me to"),
    "end": _END,
    "always": (*_ASK, "from now on", "always"),
    "until": (*_END, "until i say stop", "until i tell you to stop", "from now on", "while i talk", "all the time"),
    "exactly": ("", "", "exactly", "about"),
    "stopwatch": _STOPWATCH,
    "done": ("", "", "done", "okay", "i am done", "ready", "there", "that is it", "so", "stop"),
    "it": ("that", "it", "this", "the whole thing"),
    "quit": ("stop", "stop", "quit", "finish"),
    "thing": ("", "", "now", "that", "saying that", "this", "with that", "right now", "saying it", "repeating that"),
    "pause": ("give it", "pause for", "hold it for", "rest for", "take", "leave me", "count", "be patient for"),
    "then": ("and", "and", "then", "and after that", "before you"),
    "over": ("are over", "are up", "have passed", "are gone"),
    "when": ("when", "once", "as soon as"),
    "whenever": (
        "when", "whenever", "every time", "each time", "any time", "if", "once", "as soon as", "the moment", "in case",
    ),
    "keep": ("keep on", "keep", "go on", "carry on", "continue"),
    "like": ("i would love to", "i would like to", "i want to", "let me", "you will let me"),
    "hear": (
        "i say", "i say", "i say the word", "you hear", "you hear the word", "you hear me say", "i mention",
        "i mention the word", "i use the word",
    ),
    "reply": (
        *_SAY, "you say", "please say", "you should say", "i want you to say", "i want to hear", "you tell me",
    ),
}  # fmt: skip
LOOSE: dict[str, tuple[str, ...]] = {
    "every": (
        "{always} {remind} {p} once every {n} seconds {until}",
        "{always} {remind} {p} again and again every {n} seconds",
        "{always} {remind} {p} every {n} seconds {until}",
        "once every {n} seconds {ask} {remind} {p} {until}",
        "every {n} seconds {ask} {remind} {p} {until}",
        "after every {n} seconds {ask} {remind} {p} {until}",
        "{always} {remind} {p} at intervals of {n} seconds {end}",
        "{always} {remind} {p} with {n} seconds in between {end}",
        "every {n} seconds i want to hear {p} {end}",
        "every {n} seconds i need to hear {p} {end}",
        "{like} hear {p} once every {n} seconds {until}",
        "{like} hear {p} after every {n} seconds {until}",
        "{like} hear {p} every {n} seconds {until}",
        "{ask} {keep} saying {p} every {n} seconds {until}",
        "{ask} {keep} telling me {p} every {n} seconds {until}",
    ),
    "after": (
        "{ask} {remind} {p} in {n} seconds {end}",
        "{ask} {remind} {p} in {n} seconds from now {end}",
        "{ask} {remind} {p} after {n} seconds {end}",
        "{ask} {remind} {p} {when} {n} seconds {over} {end}",
        "in {n} seconds {ask} {remind} {p} {end}",
        "in {n} seconds from now {ask} {remind} {p} {end}",
        "after {n} seconds {ask} {remind} {p} {end}",
        "{when} {n} seconds {over} {ask} {remind} {p} {end}",
        "{ask} {remind} {p} {exactly} {n} seconds later {end}",
        "{ask} {remind} {p} in {exactly} {n} seconds {end}",
        "in {exactly} {n} seconds i want to hear {p} {end}",
        "in {n} seconds i need to hear {p} {end}",
        "{ask} {pause} {n} seconds {then} {remind} {p} {end}",
        "{ask} {pause} {n} seconds {then} {say} {p} {end}",
        "in {n} seconds it is time to {say} {p} {end}",
    ),
    "cue": (
        "{whenever} {hear} {x} {reply} {p} {end}",
        "{whenever} {hear} {x} then {reply} {p} {end}",
        "{always} {say} {p} {whenever} {hear} {x} {end}",
        "{like} hear {p} {whenever} {hear} {x} {end}",
        "{whenever} the word {x} comes up {reply} {p} {end}",
        "{always} {say} {p} right after {hear} {x} {end}",
        "right after {hear} {x} {reply} {p} {end}",
        "listen for the word {x} and {say} {p} {end}",
        "listen for {x} and {say} {p} {end}",
        "watch out for {x} and {say} {p} {end}",
        "my word is {x} and your word is {p} {end}",
        "your reply to {x} is {p} {end}",
        "{x} means that you say {p} {end}",
        "react to {x} by saying {p} {end}",
    ),
    "stop": (
        "{ask} {quit} {thing} {end}",
        "{done} you can {quit} {thing} {end}",
        "{done} no more of that {end}",
        "{done} do not say that anymore {end}",
        "{done} enough of that {end}",
        "{done} that was enough {end}",
        "{ask} let it be {end}",
    ),
    "clock": (
        "{ask} start {stopwatch} {end}",
        "{ask} measure how long this takes {end}",
        "{ask} see how long i need {end}",
    ),
    "elapsed": (
        "{done} {ask} stop {stopwatch} {end}",
        "{done} how long did {it} take {end}",
        "{done} how many seconds did {it} take {end}",
        "{done} how many seconds have passed {end}",
        "{done} how much time did i need {end}",
        "{done} how many seconds did i need {end}",
        "{done} what does the stopwatch say {end}",
        "{done} what is my time {end}",
    ),
}


def draw(form: str, rng: random.Random) -> str:
    """A loose form with its alternatives chosen: a sentence as forms.py has them."""
    text = re.sub(r"\{(\w{2,})\}", lambda slot: rng.choice(ALTERNATIVES[slot[1]]), form)
    return " ".join(text.split())


def pattern(form: str, slots: dict[str, str]) -> str:
    """The regular expression of a loose form; slots: those of its one-letter slots. "please" is not looked at."""
    parts = []
    for word in form.split():
        name = word[1:-1] if word[0] == "{" else ""
        if len(name) < 2:
            parts.append((slots[name] if name else word, False))
            continue
        texts = {" ".join(w for w in text.split() if w != "please") for text in ALTERNATIVES[name]}
        longest_first = sorted(texts - {""}, key=lambda text: (-len(text), text))
        parts.append((f"(?:{'|'.join(longest_first)})", "" in texts))
    last = max(i for i, (_, optional) in enumerate(parts) if not optional)
    out = ""
    for i, (part, optional) in enumerate(parts):
        if i > last:
            out += f"(?: {part})?"
        else:
            out += f"(?:{part} )?" if optional else part + " " * (i < last)
    return out
