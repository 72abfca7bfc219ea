"""`interplay average`: one model out of two of the same run, weight by weight.

Where the second was trained on from the first, what lies between them is often better than either (Wortsman et al.
2022, arXiv 2203.05482): a run that learns one thing and loses a little of another keeps both.
"""

from __future__ import annotations

from pathlib import Path

from interplay.core.types import BadInput
from interplay.model import checkpoint


def average(first: Path, second: Path, out: Path, share: float) -> None:
    """Write `share` of `first` plus the rest of `second` to `out`. Raises BadInput where their shapes or vocabularies
    differ, Missing or BadInput where one is no checkpoint."""
    if not 0 < share < 1:
        raise BadInput(f"--share {share:g}: between 0 and 1, of the first model")
    (one, words, _), (model, vocabulary, note) = checkpoint.load(first), checkpoint.load(second)
    if one.config != model.config:
        raise BadInput(f"{first} and {second} are models of different shapes")
    if words.words != vocabulary.words:
        raise BadInput(f"{first} and {second} have different vocabularies")
    theirs = one.state_dict()
    model.load_state_dict(
        {name: (1 - share) * t + share * theirs[name] if t.is_floating_point() else t
         for name, t in model.state_dict().items()}
    )  # fmt: skip
    note = {name: value for name, value in note.items() if name != "scores"}  # they were the second model's
    checkpoint.save(out, model, vocabulary, note={**note, "average": {"share": share, "with": first.name}})
