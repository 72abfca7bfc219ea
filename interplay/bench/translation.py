"""Word-for-word live translation: how many words come, and how long after they were spoken."""

from __future__ import annotations

import random
from dataclasses import replace

from interplay.bench.families import TO_ENGLISH, TO_SPANISH
from interplay.bench.item import Beat, Item, Tape
from interplay.bench.mixing import level
from interplay.bench.people import Cast, SyntheticPerson, Unspoken, Utterance
from interplay.bench.pool import ItemTask, Row, Summary, task
from interplay.bench.runner import Player
from interplay.bench.stats import bootstrap, median, median_interval
from interplay.bench.synthesiser import synthesiser
from interplay.bench.wording import SPELLED, write_sentence
from interplay.bench.wording import TO_ENGLISH as ENGLISH
from interplay.bench.wording import TO_SPANISH as SPANISH
from interplay.training.espeak import spanish_voice

WINDOW_S = (-0.2, 5.0)  # around the end of the word that is translated
PACE = (90, 130)  # words a minute: somebody who is interpreted leaves the interpreter time


def make(category: str, rng: random.Random, cast: Cast) -> Item:
    """category: `to_spanish` (a recorded speaker's sentences: the words that the lexicon has count), `to_english`
    (synthetic Spanish voices only)."""
    tape, person = Tape(rng, rng.uniform(0.2, 1.0)), cast.person(rng)
    request, _ = person.ask(TO_SPANISH if category == "to_spanish" else TO_ENGLISH, rng)
    tape.say(request)
    if isinstance(person, SyntheticPerson):
        person = SyntheticPerson(replace(person.voice, rate=rng.randint(*PACE)))
    due: list[tuple[str, float]] = []
    for _ in range(rng.randint(2, 3)):
        if category == "to_english":
            if not isinstance(person, SyntheticPerson):
                raise Unspoken("Spanish")
            sentence = speak_spanish(write_sentence(rng), person, rng)
        elif isinstance(person, SyntheticPerson):
            sentence = person.say(" ".join(write_sentence(rng)))
        else:
            sentence = person.chat(rng)
        lexicon = SPANISH if category == "to_spanish" else ENGLISH
        timed = tape.say(sentence, rng.uniform(0.8, 1.6))
        due += [(lexicon[word], end) for word, end in timed if word in lexicon]
    script = _paced(due)
    return Item(
        "translation", category, tape.render(tape.time + 3.0), tuple(tape.words), script, facts={"due": due}
    )  # fmt: skip


def speak_spanish(english: list[str], person: SyntheticPerson, rng: random.Random) -> Utterance:
    """The Spanish for a sentence by the same synthetic speaker; the words come back in plain letters."""
    plain = [SPANISH[word] for word in english]
    audio, timed = synthesiser().speak(" ".join(SPELLED[word] for word in plain), spanish_voice(person.voice, rng))
    words = tuple((word, end) for word, (_, end) in zip(plain, timed, strict=True))
    return Utterance(level(audio), words, person.name)


def perform(item: Item, player: Player) -> Row:
    run = player.play(item)
    due: list[tuple[str, float]] = item.facts["due"]
    begin = min((end for _, end in due), default=0.0) - 1.0
    said = [(word, t) for word, t in run.said if t >= begin]
    left, lags = list(said), []
    for word, end in due:
        at = next((s for s in left if s[0] == word and end + WINDOW_S[0] <= s[1] <= end + WINDOW_S[1]), None)
        if at is not None:
            left.remove(at)
            lags.append(max(at[1] - end, 0.0))
    return {
        "category": item.category,
        "due": len(due),
        "found": len(lags),
        "said": len(said),
        "lags": [round(lag, 3) for lag in lags],
        "lag_s": median(lags) if lags else None,
        "right": len(lags) >= 0.8 * len(due),
    }


def summarise(rows: list[Row]) -> Summary:
    """recall and precision over all words of all items; lag: median over the words that came."""
    lags = [lag for row in rows for lag in row["lags"]]
    due, said, found = (sum(row[key] for row in rows) for key in ("due", "said", "found"))
    metrics = {"recall": found / max(due, 1), "lag_s": median(lags), "precision": found / said if said else 0.0}
    # Words of one item are not independent: the interval comes from the items' own shares.
    shares = [row["found"] / max(row["due"], 1) for row in rows]
    return metrics, {"recall": bootstrap(shares), "lag_s": median_interval(lags)}


def _paced(due: list[tuple[str, float]]) -> tuple[Beat, ...]:
    """Every word 0.4 s after its end, but no two of them in one micro-turn."""
    beats, free = [], 0.0
    for word, end in due:
        t = max(end + 0.4, free)
        beats.append(Beat(t, word))
        free = t + 0.2
    return tuple(beats)


TASK = ItemTask("translation", ("to_spanish", "to_english"), make, perform, summarise)
translation = task("interplay.bench.translation:TASK")
