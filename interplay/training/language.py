"""The closed world of the nano scenes: its words, how requests are phrased, and what a request means.

One parser serves synthetic and recorded speech, so that a recorded "say blue after five seconds" and a synthesised one
lead to exactly the same targets.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from interplay.model.vocabulary import tokens

NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30,
}  # fmt: skip

CONTENT = tuple(
    re.findall(
        r"\w+",
        """
    apple banana orange lemon cherry grape peach melon sugar bread coffee water dog cat horse tiger monkey
    rabbit lion bear bird fish mouse red green blue yellow purple black white pink brown table window garden
    river mountain paper music doctor teacher pencil bottle camera castle phone ribbon ladder carpet street
    button pocket mirror bell kitchen blanket hammer candle basket desert bridge jacket guitar pillow ocean
    forest island office piano rainbow summer winter thunder train market school evening morning book hello
    goodbye breathe drink stretch blink smile relax posture ready focus careful exactly wonderful louder slower
    thanks great bingo ding quiet again okay now there walk push
    """,
    )
)

PHRASES = (
    "drink water", "take a break", "check the oven", "look away", "sit straight", "stand up", "breathe in",
    "breathe out", "relax your shoulders", "good morning", "thank you", "keep going", "wake up", "well done",
    "look up", "slow down", "call home", "feed the dog", "open the window", "close the door",
)  # fmt: skip

EVERY = (
    "say {p} every {n} seconds", "please say {p} every {n} seconds", "can you say {p} every {n} seconds for me",
    "could you say {p} every {n} seconds", "say {p} every {n} seconds please", "every {n} seconds say {p}",
    "remind me to {p} every {n} seconds", "please remind me to {p} every {n} seconds until i say stop",
    "say {p} every {n} seconds until i say stop", "i want you to say {p} every {n} seconds",
)  # fmt: skip
AFTER = (
    "in {n} seconds say {p}", "say {p} after {n} seconds", "say {p} in {n} seconds", "please say {p} in {n} seconds",
    "tell me {p} in {n} seconds from now", "remind me in {n} seconds to {p}", "after {n} seconds say {p}",
    "can you say {p} in {n} seconds", "in {n} seconds please say {p}",
)  # fmt: skip
CUE = (
    "when i say {x} you say {p}", "when i say {x} say {p}", "whenever i say {x} say {p}", "say {p} when you hear {x}",
    "every time you hear {x} say {p}", "each time i mention {a} {x} please say {p}", "every time i say {x} you say {p}",
    "if i say {x} you say {p}", "whenever you hear {x} please say {p}", "when i say {x} please say {p}",
)  # fmt: skip
REPEAT = ("repeat after me {w}", "please repeat after me {w}", "say after me {w}", "repeat {w}")
STOP = (
    "stop", "okay stop now", "please stop that", "stop now", "please stop", "cancel that", "stop that", "okay stop",
    "stop please", "you can stop now",
)  # fmt: skip
WORD_LISTS = ("{} {} {} {}", "{} {} {} {} {}", "{} {} {} {} {} {}")  # nothing to guess from: only listening helps
CHATTER = (
    *WORD_LISTS * 5,
    "i think the {} is very nice", "yesterday we saw a {} and a {}", "there was {} near the {}",
    "my {} and your {} are here", "please look at the {} now", "can we talk about {} or {}", "{} {} {}",
    "the {} looks like a {} to me", "well i really like {} today", "she put the {} on the {}", "{} and {}", "{}",
    "he told me about the {} near the {} but i forgot to write it down", "we need more {} and less {}",
    "i used to play the {} when i was in school", "first i put the {} in the {} then i waited for {n} minutes",
    "and then um he just left the {} on the table and walked out", "you know the {} was not so bad",
    "the thing about the {} is that nobody ever asks for it", "there are {n} of them in the {} right next to the {}",
    "that was a really long day i could use some {}", "have you seen my {}", "what do you think about {}",
    "i was thinking that maybe we could start with the {} and then look at the {}", "i do not want any {} now",
    "it takes about {n} minutes if the traffic is good", "honestly i do not mind either way", "i see a {} in the {}",
    "so yesterday we went down to the market and it was completely packed", "let me think for a second",
    "the weather has been so strange lately warm in the morning and freezing in the evening", "right yeah mhm",
    "my {} broke again and i had to walk all the way to the {}", "i said {} and then she said {}", "not the {} again",
    "they have {n} {} and {n} {}", "every day i say {} to the {}", "after {n} seconds it was over",
    "in the {} there is a {}", "when i was a {} i had a {}", "he can say what he wants about the {}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for. kind: every, after, cue, repeat or stop. `cue`: the word that triggers `phrase`."""

    kind: str
    phrase: tuple[str, ...] = ()
    seconds: float = 0.0
    cue: str = ""


_N = "(" + "|".join(NUMBERS) + ")"
_PATTERNS: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (kind, re.compile(pattern + "$"), groups)
    for kind, pattern, groups in (
        ("stop", "(?:please |okay |you can )*(?:stop|cancel)(?: that| now| please)?", ()),
        ("after", f"remind me in {_N} seconds to (.+) no {_N} seconds", ("_", "p", "n")),
        ("after", f"(?:please )?remind me in {_N} seconds to (.+)", ("n", "p")),
        ("after", f"(?:in|after) {_N} seconds (?:please )?say (.+)", ("n", "p")),
        ("after", f"(?:please |can you )?say (.+) (?:after|in) {_N} seconds(?: please)?", ("p", "n")),
        ("after", f"tell me (.+) in {_N} seconds(?: from now)?", ("p", "n")),
        (
            "every",
            "(?:please |can you |could you |i want you to )*(?:say|remind me to) (.+) every "
            f"{_N} seconds(?: for me| until i say stop| please)?",
            ("p", "n"),
        ),
        ("every", f"every {_N} seconds (?:please )?say (.+)", ("n", "p")),
        ("cue", r"(?:when|whenever|if) i say (\w+) (?:you |please )?say (.+)", ("x", "p")),
        (
            "cue",
            r"(?:each|every) time (?:you hear|i say|i mention) (?:an? |the )?(\w+) (?:please |you )?say (.+)",
            ("x", "p"),
        ),
        ("cue", r"whenever you hear (\w+) (?:please )?say (.+)", ("x", "p")),
        ("cue", r"say (.+) when(?:ever)? you hear (\w+)", ("p", "x")),
        ("repeat", "(?:please )?(?:repeat|say) after me (.+)", ("p",)),
        ("repeat", "repeat (.+)", ("p",)),
    )
)


def parse_request(words: list[str], *, longest: int = 4) -> Request | None:
    """What these words ask for, or None. Phrases of more than `longest` words are not requests of this world."""
    text = " ".join(words)
    for kind, pattern, groups in _PATTERNS:
        match = pattern.match(text)
        if match is None:
            continue
        got = dict(zip(groups, match.groups(), strict=True))
        phrase = tuple(got.get("p", "").split())
        if len(phrase) > longest or (kind != "stop" and not phrase):
            return None
        return Request(kind, phrase, float(NUMBERS.get(got.get("n", ""), 0)), got.get("x", ""))
    return None


def _phrase(rng: random.Random, avoid: frozenset[str] = frozenset()) -> str:
    if rng.random() < 0.15:
        return rng.choice(PHRASES)
    return rng.choice([w for w in rng.sample(CONTENT, 4) if w not in avoid])


def write_request(kind: str, rng: random.Random, *, seconds: tuple[str, ...], avoid: frozenset[str]) -> str:
    """A request of `kind` in words. `seconds`: number words to choose from; `avoid`: words it must not contain."""
    match kind:
        case "every":
            return rng.choice(EVERY).format(p=_phrase(rng, avoid), n=rng.choice(seconds))
        case "after":
            return rng.choice(AFTER).format(p=_phrase(rng, avoid), n=rng.choice(seconds))
        case "cue":
            x = rng.choice([w for w in rng.sample(CONTENT, 8) if w not in avoid])
            return rng.choice(CUE).format(x=x, p=_phrase(rng, avoid | {x}), a="an" if x[0] in "aeiou" else "a")
        case "repeat":
            return rng.choice(REPEAT).format(w=" ".join(rng.choices(CONTENT, k=rng.choice((1, 2, 2, 3, 3, 4)))))
        case "stop":
            return rng.choice(STOP)
    raise ValueError(f"no such request kind: {kind}")


def write_chatter(rng: random.Random, with_word: str | None = None) -> str:
    """A sentence that asks for nothing; `with_word` stands in one of its slots."""
    template = rng.choice(CHATTER)
    while with_word and "{}" not in template:
        template = rng.choice(CHATTER)
    while "{n}" in template:
        template = template.replace("{n}", rng.choice(list(NUMBERS)), 1)
    words = rng.choices(CONTENT, k=template.count("{}"))
    if with_word:
        words[rng.randrange(len(words))] = with_word
    return template.format(*words)


def base_vocabulary() -> list[str]:
    """Every word the templates can produce, sorted."""
    words = {*CONTENT, *NUMBERS}
    for template in (*EVERY, *AFTER, *CUE, *REPEAT, *STOP, *CHATTER, *PHRASES):
        words.update(w for w in tokens(re.sub(r"\{\w*\}", " ", template)))
    return sorted(words | {"a", "an", "uh", "um", "mhm", "zero"})
