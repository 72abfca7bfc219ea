"""What an utterance is to the background: a question, a withdrawal, a word of steering, or none of its business.

Plain rules over words, for English. They are used where no model decides; `docs/background.md` says where that is.
"""

from __future__ import annotations

import re
from enum import StrEnum

from interplay.background.numbers import is_number


class Kind(StrEnum):
    QUESTION = "question"
    WITHDRAW = "withdraw"
    PROGRESS = "progress"
    CORRECTION = "correction"
    STOP = "stop"
    RESUME = "resume"
    YES = "yes"
    NO = "no"
    BACKCHANNEL = "backchannel"
    OTHER = "other"


BACKCHANNELS = frozenset(
    """
    mhm mm uh um yeah yes right okay ok sure aha hm hmm really wow nice great
    """.split()  # noqa: SIM905
)
_LEAD = r"(?:(?:okay|ok|so|and|well|hey|please|um|uh|hi|hello|also|then|but|oh|yes|yeah|right)\s+)*"
_WITHDRAW = re.compile(
    _LEAD
    + r"(?:no )?(?:never ?mind|forget (?:it|that|about it|about that)|(?:please )?(?:stop|quit) (?:looking|searching|"
    r"working on it|that search)|cancel (?:that|it|the search|everything|all of it)|drop it|leave it|don't bother|"
    r"do not bother|i don't need (?:it|that) any ?more|i do not need (?:it|that) any ?more)\b"
)
_PROGRESS = re.compile(
    _LEAD + r"(?:are you (?:still )?(?:looking|working|searching|there|on it|checking|done|ready|finished)|"
    r"(?:have|did) you (?:found|find|got|get) (?:it|anything|something|an answer)(?: yet)?|"
    r"how (?:is it (?:going|coming)|far are you|long will it|much longer)\b|what(?:'s| is) taking|"
    r"any (?:news|luck|progress)|is it (?:done|ready))"
)
_CORRECT = re.compile(
    _LEAD + r"(?:no|nope|wait|sorry|actually|instead|rather|i mean|i meant|make (?:it|that)|not that|the other)\b"
)
_STOP = re.compile(
    _LEAD + r"(?:stop|stop it|stop (?:now|please|talking|reading)|quiet|be quiet|enough|that's enough|"
    r"that is enough|wait|hold on|shush)(?: now| please)*$"
)
_RESUME = re.compile(_LEAD + r"(?:go on|continue|keep going|carry on|please go on|tell me the rest)(?: please)?$")
_YES = re.compile(r"(?:yes|yeah|yep|sure|okay|ok|go ahead|do it|please do|of course|that's fine|fine|allowed)\b")
_BUT = re.compile(r"\b(?:no|nope|not|never|wait|stop|cancel|but|instead|actually|hold on|except|unless|\w+n't)\b")
_NO = re.compile(r"(?:no|nope|don't|do not|rather not|better not|please don't|never)\b")
_ASK = re.compile(
    r"(?:(?:no|nope|wait|sorry|actually|instead|i mean|i meant)\s+)*"
    r"(?:(?:can|could|would|will) you (?:please )?(?:tell me|find|look up|look for|search|check|calculate|work out|"
    r"convert|compute|book|order|send|get|explain|compare)|"
    r"do you (?:know|remember)|i (?:want|need|would like|'d like) to know|i was wondering|"
    r"what(?:'s|s)?|who(?:'s|se)?|where(?:'s)?|when|why|how|which|whose|"
    r"(?:please )?(?:tell me (?:about|what|who|where|when|why|how|which|the)|look up|look for|find (?:out|me|the)|"
    r"search|check (?:the|if|whether|my)|calculate|compute|work out|convert|explain|compare|book|order|send)|"
    r"(?:is|are|was|were|does|did|has|have|can|could|will) (?:it|the|there|my|our|a|an|this|that|he|she|they|we|i)\b)\b"
)
_OURS = re.compile(
    r"\b(?:every \w+ seconds|in \w+ seconds|after \w+ seconds|repeat after me|"
    r"when(?:ever)? i say|when(?:ever)? you hear|(?:each|every) time (?:you|i)|remind me|say after me)\b"
)
_DANGLING = frozenset(
    """
    what who where when why how which the a an of to in on at for from with by and or plus minus times over
    divided multiplied is are was were does do did my your our his her their into per than between about if
    whether that look up find out tell me calculate compute convert point explain compare check search please can
    could you would will know as percent's many much far long old
    """.split()  # noqa: SIM905
)
_SHORT_IS = re.compile(r"\b(what|who|where|when|how|that|it|there|here)'s\b")
_CALL = re.compile(r"[^a-z0-9'.+*/%-]+")


def normal(text: str) -> str:
    """Lower case words, one space between; a sign that is part of a number or a sum stays."""
    cleaned = _CALL.sub(" ", text.lower().replace("’", "'").replace("×", " times "))
    cleaned = _SHORT_IS.sub(r"\1 is", cleaned)
    return " ".join(word.strip(".'") or word for word in cleaned.split() if word.strip(".'-"))


def is_question(text: str) -> bool:
    """True if somebody should find something out or do something that takes time. Reminders and cues are not that."""
    words = re.sub("^" + _LEAD, "", normal(text))
    return bool(_ASK.match(words)) and not _OURS.search(words)


def is_complete(text: str) -> bool:
    """False while the words cannot be all of it: "what is seventeen times", "who wrote the"."""
    words = normal(text).split()
    if len(words) < 2 or words[-1] in _DANGLING:
        # "what is it about", "what do you know": a short question word alone is never a question of its own.
        return len(words) > 3 and words[-1] in ("about", "for", "from", "to", "is", "are", "do", "does", "know", "you")
    return True


def classify(text: str) -> Kind:
    """What kind of utterance `text` is. The order matters: "no never mind" withdraws, it does not correct."""
    words = normal(text)
    if not words:
        return Kind.OTHER
    if all(word in BACKCHANNELS for word in words.split()):
        return Kind.YES if _YES.match(words) else Kind.BACKCHANNEL
    if _WITHDRAW.match(words):
        return Kind.WITHDRAW
    if _PROGRESS.match(words):
        return Kind.PROGRESS
    if _STOP.match(words):
        return Kind.STOP
    if _RESUME.match(words):
        return Kind.RESUME
    if _CORRECT.match(words):
        return Kind.CORRECTION
    if is_question(words):
        return Kind.QUESTION
    if _YES.match(words):
        return Kind.YES
    return Kind.NO if _NO.match(words) else Kind.OTHER


def says_yes(text: str) -> bool | None:
    """True for a yes, False for a no, None if it is neither. "Okay, no, don't" begins like a yes and is a no; what goes
    on to a condition or to a question of its own is not a yes either."""
    words = normal(text)
    if _NO.match(words) or _WITHDRAW.match(words):
        return False
    if not _YES.match(words) or is_question(words):
        return None
    return not _BUT.search(words)


def sentences(text: str) -> list[str]:
    """Sentences of written text, at their punctuation marks; "3.5" is not two."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]


STOPWORDS = frozenset(
    """
    a an the is are was were be been am do does did have has had can could would will shall should may might must
    what who where when why how which whose that this these those it its i you he she we they me him her us them
    my your his our their to of in on at for from with by and or not no so as if than then there here about into
    please tell know find look up out get give want need like just also okay ok well yes yeah right wait sorry
    actually instead rather mean meant make any some s t re ve ll d m many much long far old
    """.split()  # noqa: SIM905
)


def content_words(text: str) -> frozenset[str]:
    """The words that carry what a text is about; numbers count."""
    return frozenset(word for word in normal(text).split() if word not in STOPWORDS)


_OPENERS = re.compile(
    r"^(?:(?:no|nope|wait|sorry|actually|instead|i mean|i meant|okay|ok|so|and|also|well|hey|please|um|uh|then|but)\s+|"
    r"(?:can|could|would|will) you (?:please )?(?:tell me )?|tell me |do you know )+"
)


def plain(text: str) -> str:
    """A question without what comes before it: "no wait, can you tell me who wrote it" is "who wrote it"."""
    return _OPENERS.sub("", normal(text))


def is_sum(text: str) -> bool:
    """True if the words are arithmetic: a number, an operator, a number."""
    words = normal(text).split()
    has = any(w in ("plus", "minus", "times", "divided", "multiplied", "percent", "squared", "cubed", "root", "half")
              or re.fullmatch(r"[+*/%-]", w) for w in words)  # fmt: skip
    return has and any(is_number(w) or re.search(r"\d", w) for w in words)
