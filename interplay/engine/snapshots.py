"""A session as bytes: safetensors with what model it belongs to, so that nothing else is ever restored from it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from torch import Tensor

from interplay.engine.errors import SnapshotFailed
from interplay.model.transformer import InteractionModel

FORMAT = "interplay-session-1"


def fingerprint(model: InteractionModel) -> str:
    """Of weights and shape: sessions only move between engines with the same."""
    h = hashlib.blake2b(json.dumps(model.config.to_dict(), sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().numpy().data)
    return h.hexdigest()


def pack(row: dict[str, Tensor], model: str, meta: dict) -> bytes:
    from safetensors.torch import save

    body = {name: t.contiguous() for name, t in row.items() if name != "meta"}
    return save(body, metadata={"format": FORMAT, "model": model, "meta": json.dumps(meta)})


def unpack(data: bytes, model: str) -> tuple[dict[str, Tensor], dict]:
    """Raises SnapshotFailed for anything but a whole snapshot of a session of this model."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from interplay.engine.state import META_BYTES

    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        if header["format"] != FORMAT:
            raise SnapshotFailed(f"not a session's snapshot (format {header['format']!r})")
        if header["model"] != model:
            raise SnapshotFailed("this snapshot belongs to another model; sessions only move between equal ones")
        row = load(data)
        row["meta"] = torch.zeros(META_BYTES, dtype=torch.uint8)
        return row, json.loads(header["meta"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise SnapshotFailed(f"not a usable snapshot ({type(error).__name__})") from error


def write(path: Path, data: bytes) -> None:
    """All or nothing: a full disk leaves the snapshot of before. Raises SnapshotFailed."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SnapshotFailed(f"cannot write {path}: {error.strerror or error}; the session goes on") from error


def read(path: Path) -> bytes:
    """Raises SnapshotFailed."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SnapshotFailed(f"cannot read {path}: {error.strerror or error}") from error
