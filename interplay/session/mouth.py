"""What the session's voice says, and for whom: the foreground's own words, and results that are read aloud.

Own words come first: a reminder that is due while a result is being read is said on time, and the reading goes on
after it. Every audible word is accounted for by its owner, so that nothing unheard ever counts as said.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from interplay.voice.base import Voice, VoiceTurn

OWN = ""
AT_ONCE = "now"  # the owner of short remarks that do not wait for the foreground's words to be long over
CLEAR_TURNS = 3  # micro-turns after an own word before the reading goes on: the next word of a phrase comes in two
PHRASE_WORDS = 12
PHRASE_ENDS = (".", "!", "?", ",", ";", ":")


@dataclass(frozen=True, slots=True)
class MouthTurn:
    """One micro-turn of speech.

    audible: (word, seconds into the slice, owner). finished: owners whose reading has ended.
    """

    speech: VoiceTurn
    audible: tuple[tuple[str, float, str], ...] = ()
    finished: tuple[str, ...] = ()


@dataclass(slots=True)
class Mouth:
    """One voice with two kinds of words to say."""

    voice: Voice
    _rest: deque[tuple[str, str]] = field(default_factory=deque)  # (word, owner) still to be read
    _fed: deque[tuple[str, str]] = field(default_factory=deque)  # given to the voice, not audible yet
    _last: tuple[str, str] | None = None
    _since_own: int = 100
    _held: bool = False
    _reading: dict[str, bool] = field(default_factory=dict)  # owner -> True once a word of it was audible

    @property
    def reading(self) -> tuple[str, ...]:
        """Owners of text that is being read or waits to be, in order."""
        return tuple(self._reading)

    @property
    def pending(self) -> tuple[str, ...]:
        return (*self.voice.pending, *(word for word, _ in self._rest))

    @property
    def speaking(self) -> bool:
        return self.voice.speaking or bool(self._rest)

    @property
    def own(self) -> bool:
        """Own words wait or were said a moment ago."""
        return self._since_own < CLEAR_TURNS or any(owner == OWN for _, owner in self._fed)

    def say(self, text: str) -> None:
        """The foreground's own words: now, before anything that is being read."""
        words = text.split()
        if not words:
            return
        self._give_way()
        self._fed.extend((word, OWN) for word in words)
        self.voice.say(text)
        self._since_own = 0

    def read(self, owner: str, text: str) -> None:
        """Text of a result, to be read at the pace of speech. A remark (`AT_ONCE`) goes before what is being read."""
        words = [(word, owner) for word in text.split()]
        self._reading.setdefault(owner, False)
        if owner == AT_ONCE:
            self._give_way()
            self._rest.extendleft(reversed(words))
        else:
            self._rest.extend(words)

    def hold(self, held: bool) -> None:
        """Keep silent with the reading, or go on with it. A word that is begun is broken off and said again."""
        if held and not self._held:
            self._give_way()
        self._held = held

    def stop(self, owner: str | None = None) -> dict[str, list[str]]:
        """Fall silent; with `owner`, take only its text away. Returns the words nobody will hear, by owner."""
        dropped: dict[str, list[str]] = {}
        keep: list[tuple[str, str]] = []
        audible_cut = self._last if self._back() else None
        for word, whose in [*self._fed, *self._rest]:
            if owner is None or whose == owner:
                dropped.setdefault(whose, []).append(word)
            else:
                keep.append((word, whose))
        self._fed.clear()
        self._rest = deque((word, whose) for word, whose in keep if whose != OWN)
        own = [word for word, whose in keep if whose == OWN]
        if audible_cut is not None and audible_cut[1] in dropped:
            dropped[audible_cut[1]].pop(0)  # it was heard to begin: it has been said
        for whose in list(self._reading):
            if owner is None or whose == owner:
                del self._reading[whose]
                dropped.setdefault(whose, [])
        if own:
            self._fed.extend((word, OWN) for word in own)
            self.voice.say(" ".join(own))
        return dropped

    async def settle(self, timeout_s: float) -> None:
        self._feed()
        await self.voice.settle(timeout_s)

    def step(self) -> MouthTurn:
        """The next 200 ms."""
        self._feed()
        speech = self.voice.step()
        audible = []
        for word, offset in speech.audible:
            owner = OWN
            while self._fed:
                given, owner = self._fed.popleft()
                if given == word:
                    break
            self._last = (word, owner)
            if owner in self._reading:
                self._reading[owner] = True
            audible.append((word, offset, owner))
        self._since_own = 0 if any(owner == OWN for _, owner in self._fed) else self._since_own + 1
        if any(owner == OWN for *_, owner in audible):
            self._since_own = 0
        left = {owner for _, owner in [*self._fed, *self._rest]}
        if not self.voice.speaking:
            self._fed.clear()  # what makes no sound (a lone dash) was passed over
            left = {owner for _, owner in self._rest}
        finished = tuple(owner for owner in self._reading if owner not in left)
        for owner in finished:
            del self._reading[owner]
        return MouthTurn(speech, tuple(audible), finished)

    def _feed(self) -> None:
        """Give the voice the next phrase of what is read, one ahead so that it is rendered in time."""
        while self._rest and not self._held and len(self._fed) < PHRASE_WORDS // 2:
            if self._rest[0][1] != AT_ONCE and self._since_own < CLEAR_TURNS:
                return
            phrase: list[tuple[str, str]] = []
            owner = self._rest[0][1]
            while self._rest and self._rest[0][1] == owner and len(phrase) < PHRASE_WORDS:
                phrase.append(self._rest.popleft())
                if phrase[-1][0].endswith(PHRASE_ENDS):
                    break
            self._fed.extend(phrase)
            self.voice.say(" ".join(word for word, _ in phrase))

    def _give_way(self) -> None:
        """Take back what is being read, the word that is cut in its middle included, and keep own words going."""
        if all(owner == OWN for _, owner in self._fed) and (self._last is None or self._last[1] == OWN):
            return
        self._back()
        own = [word for word, owner in self._fed if owner == OWN]
        self._rest.extendleft(reversed([pair for pair in self._fed if pair[1] != OWN]))
        self._fed = deque((word, OWN) for word in own)
        if own:
            self.voice.say(" ".join(own))

    def _back(self) -> bool:
        """Silence the voice; `_fed` is then what it had not finished. True if that begins with a word cut in half."""
        dropped = self.voice.pause()
        cut = len(dropped) > len(self._fed) and self._last is not None and dropped[0] == self._last[0]
        if cut and self._last is not None:
            self._fed.appendleft(self._last)
        return cut
