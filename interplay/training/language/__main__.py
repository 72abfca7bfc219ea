"""Writes docs/english.md to standard output: `python -m interplay.training.language > docs/english.md`."""

from __future__ import annotations

import textwrap

from interplay.training.language import base_vocabulary, forms, spanish, words

_HEAD = """# Interaction English

The closed language of the training scenes: {english} English words and {spanish} Spanish ones. The code is
`interplay/training/language/`; this page is written by `python -m interplay.training.language > docs/english.md`.

```python
from interplay.training.language import parse_request
parse_request("say apple every five no seven seconds please".split())   # every, ("apple",), 7.0
```

Requests have at least six sentences for training and two that training never sees; tests and the bench ask for those
with `write_request(kind, rng, ..., held_out=True)`. The parser is made from the same sentences and forgives politeness,
hesitations and one self-correction. Recorded clips in a held-out phrasing are left out of training. Reminders and cues
can also be put together from loose parts: openers, verbs, ways to say when (`looseness`, see `loose.py`).

## Requests

| kind | for example | held out, for example |
|---|---|---|"""


def _paragraph(title: str, listed: object) -> str:
    return textwrap.fill(f"**{title}**: {listed}.", 118) + "\n"


def page() -> str:
    """The documented vocabulary, as Markdown."""
    english = set(base_vocabulary()) - set(spanish.TO_ENGLISH)
    lines = [_HEAD.format(english=len(english), spanish=len(spanish.TO_ENGLISH))]
    lines += [f"| {kind} | {training[0]} | {held[0]} |" for kind, (training, held) in forms.FORMS.items()]
    lines += ["", "## Words", ""]
    groups = {
        "core, the words that scenes mostly draw": words.CONTENT,
        "numbers": (*words.NUMBERS, "hundred", "zero"),
        "days, months, names": (*words.DAYS, *words.MONTHS, *words.NAMES),
        **words.TOPICS,
    }
    lines += [_paragraph(title, " ".join(group)) for title, group in groups.items()]
    rest = english - {word for group in groups.values() for word in group}
    lines.append(_paragraph("function words and the rest of the sentences", " ".join(sorted(rest))))
    lines += ["## Spanish, word for word", ""]
    lines.append("Without accents, the article always `el`; no Spanish word looks like an English one of this world.\n")
    lines.append(textwrap.fill(", ".join(f"{a} {b}" for a, b in spanish.TO_SPANISH.items()) + ".", 118))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
