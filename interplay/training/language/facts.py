"""What the closed world knows: sums, sequences, opposites, colors, and texts long enough to be interrupted."""

from __future__ import annotations

from interplay.training.language.words import DAYS, MONTHS, number_value, number_words

_PAIRS = """
big small, hot cold, warm cool, happy sad, fast slow, high low, hard soft, light dark, long short, loud quiet,
new old, open closed, rich poor, strong weak, thick thin, wet dry, young old, full empty, early late, clean dirty,
easy difficult, good bad, near far, deep shallow, wide narrow, sweet sour, sharp blunt, heavy light, smooth rough,
cheap expensive, true false, summer winter, morning evening, black white, left right, up down, inside outside,
day night, king queen, push pull, start stop, win lose, buy sell, give take, first last, hello goodbye, before after
"""
OPPOSITES: dict[str, str] = {}
for _pair in _PAIRS.replace("\n", " ").split(","):
    _one, _other = _pair.split()
    OPPOSITES.setdefault(_one, _other)
    OPPOSITES.setdefault(_other, _one)

COLOR_OF = {
    "lemon": "yellow", "banana": "yellow", "cherry": "red", "tomato": "red", "strawberry": "red", "rose": "red",
    "grass": "green", "frog": "green", "lettuce": "green", "cucumber": "green", "sky": "blue", "ocean": "blue",
    "snow": "white", "milk": "white", "salt": "white", "swan": "white", "coal": "black", "raven": "black",
    "chocolate": "brown", "coffee": "brown", "bear": "brown", "carrot": "orange", "pumpkin": "orange",
    "grape": "purple", "plum": "purple", "pig": "pink", "elephant": "gray", "mouse": "gray", "sun": "yellow",
}  # fmt: skip

TALES = {
    "story": "once there was a {x} near the river one morning it was very cold so the {x} went home and made some "
    "tea then it was happy again and that is the end",
    "describe": "the {x} is a thing that many people like you can find a {x} in a house or in a garden and some "
    "people have more than one",
    "explain": "first you need a {x} then you look at it for a long time and after that you know everything about "
    "the {x} that there is to know",
}
ABOUT_ME = "i am a small model that listens and speaks at the same time i can count and remind you and translate"
SKILLS = "i can repeat words and say things on time and count and answer small questions"

Answer = tuple[str, ...]


def _say(value: int) -> Answer:
    return ("that", "is", *number_words(value))


def total(n: str, m: str, sign: str) -> Answer | None:
    """The answer to a small sum; None if it leaves 0 .. 999."""
    a, b = number_value(n), number_value(m)
    if a is None or b is None:
        return None
    value = {"plus": a + b, "and": a + b, "minus": a - b, "times": a * b}[sign]
    return _say(value) if 0 <= value <= 999 else None


def neighbor(x: str, step: int) -> Answer | None:
    """What comes `step` (1 or -1) after a number, a day or a month."""
    value = number_value(x)
    if value is not None:
        return ("it", "is", *number_words(value + step)) if 0 <= value + step <= 99 else None
    for ring in (DAYS, MONTHS):
        if x in ring:
            return ("it", "is", ring[(ring.index(x) + step) % len(ring)])
    return None


def opposite(x: str) -> Answer | None:
    return ("it", "is", OPPOSITES[x]) if x in OPPOSITES else None


def color_of(x: str) -> Answer | None:
    return ("it", "is", COLOR_OF[x]) if x in COLOR_OF else None


def compare(n: str, m: str, more: bool) -> Answer | None:
    a, b = number_value(n), number_value(m)
    if a is None or b is None or a == b:
        return None
    return ("that", "is", "right" if (a > b) == more else "wrong")


def count(start: str, end: str) -> Answer | None:
    """Count from one number to another, up or down; None for the same number or for more than twenty."""
    a, b = number_value(start), number_value(end)
    if a is None or b is None or not 1 <= abs(a - b) <= 20:
        return None
    step = 1 if b > a else -1
    return tuple(w for value in range(a, b + step, step) for w in number_words(value))


def tale(kind: str, x: str) -> Answer:
    return tuple(TALES[kind].format(x=x).split())


SMALL_TALK: dict[str, tuple[tuple[str, ...], str]] = {
    "how": (("how are you", "how are you doing", "how are you today"), "very well thanks"),
    "hear": (("can you hear me", "do you hear me", "are you still there", "are you there"), "yes i hear you"),
    "skills": (("what can you do", "what do you know", "how can you help me"), SKILLS),
    "self": (("tell me about yourself", "who are you", "tell me who you are"), ABOUT_ME),
    "days": (
        ("name the days of the week", "tell me the days of the week", "what are the days of the week"),
        " ".join(DAYS),
    ),
    "months": (
        ("name the months of the year", "tell me the months of the year", "what are the months of the year"),
        " ".join(MONTHS),
    ),
    "rainbow": (
        ("name the colors of the rainbow", "tell me the colors of the rainbow", "what are the colors of the rainbow"),
        "red orange yellow green blue and purple",
    ),
}
# Things people say to nobody in particular. Only an eager listener has something to say to them.
REMARKS = {
    "i am so tired": "take a break",
    "i am a bit tired today": "take a break",
    "i am really hungry": "eat some bread",
    "i could eat something now": "eat some bread",
    "i am so thirsty": "drink some water",
    "my mouth is very dry": "drink some water",
    "it is cold in here": "close the window",
    "it is getting cold now": "close the window",
    "it is too warm in here": "open the window",
    "i can not find my keys": "check your pocket",
    "where did i put my keys": "check your pocket",
    "my back hurts today": "sit straight",
    "i have been sitting here for hours": "stand up",
    "this is all too much": "breathe in",
    "i finished all my work": "well done",
    "i won the game yesterday": "well done",
}
