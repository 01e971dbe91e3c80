"""Models on disk: ``model.json`` and ``weights.safetensors``, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from synthfactory import __version__
from synthfactory.artifacts import digest_bytes, write_atomic, write_json
from synthfactory.errors import ReleaseError
from synthfactory.generators.base import MODEL_FILE

WEIGHTS_FILE = "weights.safetensors"


def save_network(path: Path, document: Mapping[str, Any], network: nn.Module) -> None:
    """Write a network's weights and what describes them into the folder ``path``."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    content = safetensors.torch.save(tensors)
    write_atomic(path / WEIGHTS_FILE, content)
    save_document(path, {**document, "weights": digest_bytes(content)})


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``model.json``."""
    write_json(path / MODEL_FILE, {"synthfactory": __version__, **document})


def load_document(path: Path) -> dict[str, Any]:
    """Read ``model.json``.

    Raises
    ------
    ReleaseError
        When the folder holds no model.
    """
    try:
        document = json.loads((path / MODEL_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} holds no readable {MODEL_FILE}: {error}.") from error
    if not isinstance(document, dict) or "kind" not in document:
        raise ReleaseError(f"{path / MODEL_FILE} describes no model: it names no 'kind'.")
    return document


def load_weights(path: Path, document: Mapping[str, Any], network: nn.Module) -> None:
    """Fill a network with the weights beside ``model.json``.

    Raises
    ------
    ReleaseError
        When they are absent, changed, or not those of this network.
    """
    try:
        content = (path / WEIGHTS_FILE).read_bytes()
        if digest_bytes(content) != document["weights"]:
            raise ReleaseError(f"{path / WEIGHTS_FILE} is not the file that {MODEL_FILE} names.")
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        network.load_state_dict(tensors)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ReleaseError):
            raise
        raise ReleaseError(f"Cannot load the weights in {path}: {error}.") from error
