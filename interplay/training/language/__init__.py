"""Interaction English: the closed world's words, how requests are phrased, and what a request means."""

from __future__ import annotations

import re

from interplay.model.vocabulary import tokens
from interplay.training.language import chatter, facts, forms, loose, parser, spanish, words
from interplay.training.language.chatter import CHATTER, WORD_LISTS, write_chatter, write_story
from interplay.training.language.forms import FAMILIES, FORMS
from interplay.training.language.parser import Request, corrected, is_held_out, parse_request, write_request
from interplay.training.language.words import CONTENT, NUMBERS, PHRASES, WIDE, number_value, number_words

__all__ = [
    "CHATTER",
    "CONTENT",
    "FAMILIES",
    "FORMS",
    "NUMBERS",
    "PHRASES",
    "WIDE",
    "WORD_LISTS",
    "Request",
    "base_vocabulary",
    "corrected",
    "is_held_out",
    "number_value",
    "number_words",
    "parse_request",
    "spanish",
    "write_chatter",
    "write_request",
    "write_story",
]
# Words of tool calls, of their results, and of the agreement before a session.
_PROTOCOL = (
    "over", "timer", "note", "mark", "minutes", "also", "done", "zero", "filler", "so", "far", "about", "okay",
    "hundred",
)  # fmt: skip


def base_vocabulary() -> list[str]:
    """Every word that the closed world can produce, English and Spanish, sorted."""
    found = {*CONTENT, *WIDE, *NUMBERS, *words.NAMES, *words.DAYS, *words.MONTHS, *words.COLORS, *words.FILLERS}
    found |= {*words.HESITATIONS, *words.BACKCHANNELS, *spanish.TO_SPANISH, *spanish.TO_ENGLISH, *_PROTOCOL}
    found |= {*parser.FACTS, "i", "mean", "or", "rather", "no", "wait", "sorry"}
    found |= {*facts.OPPOSITES, *facts.COLOR_OF, *forms.SHAPES, *forms.CONFUSED}
    found |= {w for group in forms.CONFUSED.values() for w in group}
    texts = [form for groups in FORMS.values() for group in groups for form in group]
    texts += [text for texts in loose.ALTERNATIVES.values() for text in texts]
    texts += [re.sub(r"\{\w+\}", " ", form) for forms in loose.LOOSE.values() for form in forms]
    texts += [*PHRASES, *facts.TALES.values(), facts.ABOUT_ME, facts.SKILLS, *facts.REMARKS, *facts.REMARKS.values()]
    texts += [answer for _, answer in facts.SMALL_TALK.values()]
    for name in ("CHATTER", "STORY_OPENINGS", "HELD_OUT_STORY_OPENINGS", "STORY_PARTS", "STORY_ENDS", "QUOTES",
                 "HELD_OUT_QUOTES", "INTERRUPTIONS", "NOTHING_AFTER_ALL", "SIDE_TALK", "RESULTS"):  # fmt: skip
        texts += getattr(chatter, name)
    texts.append("that is right wrong it you are i am do not know have no name yet one time times let me look moment")
    texts.append("your timer is up hello seconds second a an the")
    for text in texts:
        found.update(tokens(re.sub(r"\{\w*\}", " ", text)))
    return sorted(found)
