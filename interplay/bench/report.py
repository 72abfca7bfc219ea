"""The bench as pictures: what every task reached, by category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from interplay.bench.task import Result
from interplay.core.types import Missing


def draw(results: dict[str, Result], document: dict[str, Any], folder: Path) -> None:
    """Draw `bench.png` into `folder`. Raises Missing without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise Missing('--report draws with matplotlib: pip install "interplay[train]"') from error
    figure, axes = plt.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), squeeze=False, layout="constrained")
    for axis, (task, result) in zip(axes[:, 0], results.items(), strict=True):
        names = [name for name, value in result.metrics.items() if value == value]
        axis.barh(names, [result.metrics[name] for name in names], color="#3d6fb6")
        axis.invert_yaxis()
        axis.set_title(f"{task} (n = {result.n})", loc="left", fontsize=9)
    figure.suptitle(f"{document['foreground']}, voices {document['voices']}, seed {document['seed']}", fontsize=9)
    figure.savefig(folder / "bench.png", dpi=120)
    plt.close(figure)
