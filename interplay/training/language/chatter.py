"""What people say when they want nothing: talk, stories in pieces, and requests that are only quoted."""

from __future__ import annotations

import random

from interplay.training.language.facts import REMARKS
from interplay.training.language.words import HESITATIONS, NAMES, NUMBERS, content

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

# Somebody starts to tell a story; from here on a listener may show that it listens.
STORY_OPENINGS = (
    "let me tell you what happened", "listen to what happened yesterday", "you will not believe what happened",
    "i have to tell you about my day", "let me tell you about my week", "so here is what happened",
)  # fmt: skip
HELD_OUT_STORY_OPENINGS = ("i want to tell you a little story", "guess what happened to me")
STORY_PARTS = (
    "i went to the {} with my {}", "and then we saw a {} near the {}", "there were {n} people with a {}",
    "my brother had lost his {} again", "so we looked everywhere for the {}", "it was late and we were very tired",
    "then suddenly the {} fell on the {}", "everybody laughed about the {}", "i had never seen such a {}",
    "we waited for {n} minutes at the {}", "somebody had left a {} on the {}", "the man from the {} was very kind",
    "in the end we took the {} home", "and the {} was full of {}", "she gave me her {} and walked away",
    "after that we had some {} and talked", "it had been raining since the morning", "nobody knew what to do",
)  # fmt: skip
STORY_ENDS = ("and that was my day", "and that is the whole story", "so that is what happened")

# A request that is told, not asked: the same words, and nothing to do.
QUOTES = (
    "he said {r}", "she told me {r}", "my teacher always says {r}", "yesterday somebody asked me {r}",
    "in the film she says {r}", "the sign said {r}", "i told him {r}", "my friend wrote {r}",
)  # fmt: skip
HELD_OUT_QUOTES = ("in the book it says {r}", "my sister keeps saying {r}")
# Talk of somebody who thinks while speaking: | is a pause in which nobody has yielded, {h} a hesitation.
MUSINGS = (
    "the code for the door was {n} {n} {h} | {n} {n}", "i had {n} no {n} of them {h} | in the {}", "{} and {h} | {}",
    "let me see there was a {} and {h} | a {}", "i think we met at the {h} | at the {}", "{n} {n} {h} | {n}",
    "so first of all the {h} | the {}", "her number starts with {n} {n} {h} | then {n}",
    "we need {n} {} and {h} | one {}", "what was the word again {h} | {} maybe",
    "where did i put the {h} | the {} i mean", "and then i {h} | i saw the {}",
    "you know the thing with the {h} | {}", "the result could be {n} or {h} | or {n}",
    "number {n} was the {h} | the {}", "my sister lives near the {h} | what is it called again {h} | the {}",
    "the page with the {} was {n} {n} {h} | {n}", "so that makes {n} and {n} {h} | no wait let me think {h} | {n}",
    "the name of the place is {h} | something with {}",
)  # fmt: skip
INTERRUPTIONS = ("wait", "no wait", "sorry one question", "actually no", "one more thing", "but listen", "hold on")
NOTHING_AFTER_ALL = ("oh nothing go on", "sorry go on", "please go on")
SIDE_TALK = (
    "did you see the {} on the {}", "i will be home at {n}", "could you bring me the {}", "we should buy {} and {}",
    "yes but the {} is broken", "no i do not think so", "what did you do with the {}", "the {} will be late today",
    "and now the news about the {}", "it is {n} o'clock and this is the radio", "next we have a song about the {}",
)  # fmt: skip
# What the background comes back with.
RESULTS = (
    "i found a {} near the {}", "there are {n} of them in the {}", "it opens at {n} in the morning",
    "the {} costs about {n}", "it was the {} from the {}", "they say the {} is the best", "nobody knows for sure",
    "it is {n} minutes from the {} to the {}", "your {} is ready at the {}",
)  # fmt: skip


def fill(template: str, rng: random.Random, breadth: float = 0.0) -> str:
    """`template` with its {}, {n} and {h} (often a hesitation) slots filled."""
    while "{h}" in template:
        template = template.replace("{h}", rng.choice(HESITATIONS) if rng.random() < 0.8 else "", 1)
    while "{n}" in template:
        template = template.replace("{n}", rng.choice(list(NUMBERS)), 1)
    return template.format(*(content(rng, breadth) for _ in range(template.count("{}"))))


def write_chatter(rng: random.Random, with_word: str | None = None, *, breadth: float = 0.0) -> str:
    """A sentence that asks for nothing; `with_word` stands in one of its slots."""
    template = rng.choice(CHATTER)
    while with_word and "{}" not in template:
        template = rng.choice(CHATTER)
    if with_word:
        parts = template.split("{}")
        place = rng.randrange(1, len(parts))
        template = "{}".join(parts[:place]) + with_word + "{}".join(parts[place:])
    text = fill(template, rng, breadth)
    return write_chatter(rng, with_word, breadth=breadth) if text == "hello" else text  # alone, a greeting


def write_story(rng: random.Random, parts: int, *, held_out: bool = False, breadth: float = 0.0) -> list[str]:
    """An opening, `parts` sentences and an end, each to be said in one breath."""
    opening = rng.choice(HELD_OUT_STORY_OPENINGS if held_out else STORY_OPENINGS)
    middle = [fill(rng.choice(STORY_PARTS), rng, breadth) for _ in range(parts)]
    return [opening, *middle, rng.choice(STORY_ENDS)]


def quoted(request: str, rng: random.Random, *, held_out: bool = False) -> str:
    """Somebody else's request, told."""
    return rng.choice(HELD_OUT_QUOTES if held_out else QUOTES).format(r=request)


def addressed(request: str, rng: random.Random, *, to: str | None = None) -> str:
    """The request, to somebody by name."""
    return rng.choice(("{name} {r}", "hey {name} {r}", "{name} please {r}")).format(
        name=to or rng.choice(NAMES), r=request
    )


def write_musing(rng: random.Random, *, breadth: float = 0.0) -> list[str]:
    """What somebody says who thinks while speaking: parts with a pause between them."""
    return [" ".join(part.split()) for part in fill(rng.choice(MUSINGS), rng, breadth).split("|")]


def write_remark(rng: random.Random) -> str:
    """Something said to nobody in particular that an eager listener would answer."""
    return rng.choice(tuple(REMARKS))
