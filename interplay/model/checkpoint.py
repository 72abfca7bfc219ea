"""One file holds a model: safetensors weights with its config and vocabulary in the header."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from interplay.core.types import BadInput, Missing
from interplay.model.config import MARKS, ModelConfig
from interplay.model.transformer import InteractionModel
from interplay.model.vocabulary import Vocabulary

FORMAT = "interplay-2"
OLD = "interplay-1"  # two decisions; no events, marks, manners or prefix


def default_checkpoint() -> Path:
    """Where the shipped `nano` lies inside the package."""
    return Path(__file__).resolve().parent.parent / "data" / "nano.safetensors"


def save(path: Path, model: InteractionModel, vocabulary: Vocabulary, *, note: dict[str, object] | None = None) -> None:
    """Write weights as bfloat16 with everything needed to run them. `note`: what it was trained on, scores."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().to(torch.bfloat16).contiguous().cpu() for name, t in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "config": json.dumps(model.config.to_dict()),
        "vocabulary": json.dumps(vocabulary.words),
        "note": json.dumps(note or {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata=header)
    temporary.replace(path)


def load(path: Path) -> tuple[InteractionModel, Vocabulary, dict[str, object]]:
    """Read a checkpoint: float32 model in eval mode, its vocabulary, its note.

    Raises Missing if there is no such file, BadInput if it is not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise Missing(f"no checkpoint at {path}: train one with `interplay train runs/nano.toml` or pass --checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if header.get("format") not in (FORMAT, OLD):
            raise BadInput(f"{path}: not an interplay checkpoint (format {header.get('format')!r})")
        config = ModelConfig(**json.loads(header["config"]))
        vocabulary = Vocabulary.from_list(json.loads(header["vocabulary"]))
        model = InteractionModel(config, len(vocabulary))
        if header["format"] == OLD:
            tensors = _upgraded(tensors, model)
        later = max(0, len(MARKS) - len(tensors["marks"]))  # marks these weights do not know: they add nothing
        tensors["marks"] = torch.nn.functional.pad(tensors["marks"], (0, 0, 0, later))
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"{path}: not a usable checkpoint ({str(error).splitlines()[0]})") from error
    return model.eval(), vocabulary, json.loads(header.get("note", "{}"))


def _upgraded(tensors: dict[str, torch.Tensor], model: InteractionModel) -> dict[str, torch.Tensor]:
    """Weights of the old format in today's shape: what is new never decides anything and adds nothing, and a word of a
    text event reads like a heard one."""
    fresh = model.state_dict()
    decision, bias = fresh["decision.weight"].zero_(), fresh["decision.bias"].fill_(-12.0)
    decision[:2], bias[:2] = tensors["decision.weight"], tensors["decision.bias"]
    fresh["feed_event.weight"] = tensors["feed_heard.weight"].clone()
    return {**fresh, **{name: t for name, t in tensors.items() if not name.startswith("decision.")}}
