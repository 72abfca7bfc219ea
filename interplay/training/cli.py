"""`interplay train`: runs a recipe, shows how it goes, draws its curves."""

from __future__ import annotations

import json
from pathlib import Path

from interplay.core.types import BadInput, Missing


def train_command(
    recipe: Path,
    *,
    device: str | None = None,
    resume: bool = False,
    data: list[Path] | None = None,
    out: Path | None = None,
    start_from: Path | None = None,
    steps: int | None = None,
    dial: float = 1.0,
    processes: int = 1,
) -> None:
    """Train `recipe`; checkpoint, log and curves go to `out` (default: out/NAME). processes: share each batch.

    dial: the share of the recipe's compute to spend; its schedule keeps its shape. steps: all that is said about
    length, instead of the recipe's.
    """
    try:
        import torch
    except ImportError as error:
        raise Missing('training needs PyTorch: pip install "interplay[train]"') from error
    from dataclasses import replace
    from functools import partial

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from interplay.training import parallel
    from interplay.training.loop import Progress, Run, train
    from interplay.training.recipe import load_recipe

    plan = load_recipe(recipe)
    if not 0 < dial <= 100:
        raise BadInput(f"--dial is a share of the recipe's compute, more than 0 and at most 100, not {dial:g}")
    if steps is not None:
        plan = replace(plan, train=replace(plan.train, steps=steps))
    plan = replace(plan, train=plan.train.dialled(dial))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"--device {device}: this machine has no usable CUDA GPU; leave the option out to train on CPU")
    torch.set_num_threads(1)
    target = out or Path("out") / plan.name
    console = Console()
    console.print(f"training {plan.name} on {device}, {plan.train.steps} steps, into {target}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("loss  -  ", total=plan.train.steps)

        def watch(progress: Progress) -> None:
            text = f"loss {progress.loss:.3f}  {progress.seconds_per_step:.2f} s/step"
            bar.update(task, completed=progress.step, description=text)
            if progress.scores:
                for name, group in progress.scores.items():
                    figures = "  ".join(f"{key} {value:.3f}" for key, value in group.items())
                    bar.console.print(f"step {progress.step:5d} {name:8s} {figures}")
                draw_curves(target / "log.jsonl", target / "curves.png")

        run = Run(plan, target, tuple(data or ()), device, resume, start_from)
        leader, follower = partial(train, run, watch), partial(_follow, run)
        parallel.run(leader, processes, others=follower)
    console.print(f"done: {run.checkpoint}")


def _follow(run, share) -> None:
    from interplay.training.loop import train

    train(run, share=share)


def draw_curves(log: Path, picture: Path) -> None:
    """Loss and closed-loop scores over steps, as a PNG; silently skipped where matplotlib is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    scored = [row for row in rows if "scores" in row]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
    left.plot([r["step"] for r in rows], [r["loss"] for r in rows], lw=0.7)
    left.set(title="training loss", xlabel="step", yscale="log")
    for name in scored[-1]["scores"] if scored else ():
        steps = [r["step"] for r in scored]
        middle.plot(steps, [r["scores"][name]["wer"] for r in scored], label=name)
        right.plot(steps, [r["scores"][name]["perfect"] for r in scored], label=name)
    middle.set(title="word error rate, closed loop, held-out voices", xlabel="step", ylim=(0, 1))
    right.set(title="scenes without any error in what is said", xlabel="step", ylim=(0, 1))
    for axis in (middle, right):
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
