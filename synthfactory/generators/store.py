"""Models on disk: ``model.json`` and ``weights.safetensors``, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from synthfactory import __version__, plugins
from synthfactory.artifacts import digest_bytes, write_atomic, write_json
from synthfactory.errors import ReleaseError
from synthfactory.generators.base import MODEL_FILE

WEIGHTS_FILE = "weights.safetensors"


def save_weights(path: Path, document: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write weights and what describes them into the folder ``path``."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    content = safetensors.torch.save(tensors)
    write_atomic(path / WEIGHTS_FILE, content)
    save_document(path, {**document, "weights": digest_bytes(content)})


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``model.json`` with a digest of what it says, and the package that offers its kind."""
    offer = plugins.find(plugins.MODELS, str(document["kind"]))
    package = {} if offer is None else {"package": f"{offer.package} {offer.version}"}
    content = {"synthfactory": __version__, **package, **document}
    write_json(path / MODEL_FILE, {**content, "digest": _digest(content)})


def _digest(content: Mapping[str, Any]) -> str:
    return digest_bytes(json.dumps(content, sort_keys=True).encode())


def load_document(path: Path) -> dict[str, Any]:
    """Read ``model.json``.

    Raises
    ------
    ReleaseError
        When the folder holds no model, or a changed one.
    """
    try:
        document = json.loads((path / MODEL_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} holds no readable {MODEL_FILE}: {error}.") from error
    if not isinstance(document, dict) or "kind" not in document:
        raise ReleaseError(f"{path / MODEL_FILE} describes no model: it names no 'kind'.")
    digest = document.pop("digest", None)
    if digest is not None and digest != _digest(document):
        raise ReleaseError(
            f"{path / MODEL_FILE} is not as it was written: its digest differs; fit again."
        )
    return document


def check_digest(path: Path, digest: str) -> bytes:
    """The content of ``path``, when it is what ``model.json`` names.

    Raises
    ------
    ReleaseError
        When the file is absent or changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"Cannot load the model: {path} cannot be read: {error}.") from error
    if digest_bytes(content) != digest:
        raise ReleaseError(
            f"{path} is not the file that {MODEL_FILE} names: it was changed; fit again."
        )
    return content


def load_weights(
    path: Path, document: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The weights beside ``model.json``, which must have these names and shapes.

    Raises
    ------
    ReleaseError
        When they are absent, changed, or others.
    """
    content = check_digest(path / WEIGHTS_FILE, document["weights"])
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        raise ReleaseError(f"Cannot load the weights in {path}: {error}.") from error
    came = {name: tuple(value.shape) for name, value in weights.items()}
    if came != dict(shapes):
        differing = sorted(
            {name for name in {*came, *shapes} if came.get(name) != shapes.get(name)}
        )
        raise ReleaseError(
            f"The weights in {path} are not those of the model that {MODEL_FILE} describes: "
            f"{', '.join(differing[:3])} differ; fit again."
        )
    return weights
