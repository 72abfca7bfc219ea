"""The bench as a picture: accuracy by category, and when the responses came."""

from __future__ import annotations

from pathlib import Path

from interplay.bench.items import CUE_WINDOW_S, TIME_WINDOW_S
from interplay.bench.score import Verdict
from interplay.core.types import Missing


def draw(verdicts: dict[str, list[Verdict]], document: dict, path: Path) -> None:
    """One row per task: accuracy by category on the left, response times in their window on the right."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise Missing('--report draws with matplotlib: pip install "interplay[train]"') from error
    if not verdicts:
        return
    figure, axes = plt.subplots(len(verdicts), 2, figsize=(11, 3 * len(verdicts)), squeeze=False, layout="constrained")
    for (bars, times), (task, rows) in zip(axes, verdicts.items(), strict=True):
        categories = list(dict.fromkeys(v.category for v in rows))
        shares = [
            100 * sum(v.right for v in rows if v.category == c) / sum(v.category == c for v in rows) for c in categories
        ]
        bars.bar(categories, shares, color="#3d6fb6")
        bars.axhline(sum(shares) / len(shares), color="#c05621", lw=1)
        bars.set(title=f"{task}: right items, % (line: macro accuracy)", ylim=(0, 100))
        low, high = CUE_WINDOW_S if task == "cuespeak" else TIME_WINDOW_S
        times.hist([v.onset_s + (low + high) / 2 for v in rows if v.hit], bins=28, range=(low, high), color="#3d6fb6")
        unit = "end of the cue word" if task == "cuespeak" else "due time"
        times.set(title="first word audible", xlabel=f"seconds after the {unit}", xlim=(low, high))
    figure.suptitle(f"{document['foreground']}, voices {document['voices']}, seed {document['seed']}", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)
