"""What learns a table: specifications, and the models that they fit."""

from __future__ import annotations

from pathlib import Path

from synthfactory.errors import ReleaseError
from synthfactory.generators.base import Callback as Callback
from synthfactory.generators.base import Generator as Generator
from synthfactory.generators.base import Model as Model
from synthfactory.generators.base import Progress as Progress
from synthfactory.generators.base import check_conditions as check_conditions
from synthfactory.generators.cart import CART as CART
from synthfactory.generators.cart import CARTModel
from synthfactory.generators.ctgan import CTGAN as CTGAN
from synthfactory.generators.ctgan import CTGANModel
from synthfactory.generators.exchange import from_ctgan as from_ctgan
from synthfactory.generators.floors import Bootstrap as Bootstrap
from synthfactory.generators.floors import BootstrapModel, IndependentModel
from synthfactory.generators.floors import Independent as Independent
from synthfactory.generators.neural import NeuralGenerator as NeuralGenerator
from synthfactory.generators.neural import describe_engine as describe_engine
from synthfactory.generators.neural import fit_ensemble as fit_ensemble
from synthfactory.generators.neural import fit_tables as fit_tables
from synthfactory.generators.neural import members_at_once as members_at_once
from synthfactory.generators.store import load_document
from synthfactory.generators.training import step_of as step_of
from synthfactory.generators.tvae import TVAE as TVAE
from synthfactory.generators.tvae import TVAEModel
from synthfactory.generators.vault import SDVCTGAN as SDVCTGAN
from synthfactory.generators.vault import SDVTVAE as SDVTVAE
from synthfactory.generators.vault import SDVGaussianCopula as SDVGaussianCopula
from synthfactory.generators.vault import VaultModel

_MODELS: dict[str, type[Model]] = {
    model.kind: model
    for model in (CTGANModel, TVAEModel, CARTModel, IndependentModel, BootstrapModel, VaultModel)
}


def load_model(path: str | Path) -> Model:
    """The model that `Model.save` wrote into the folder ``path``.

    Raises
    ------
    ReleaseError
        When the folder holds no model, or files that were changed.
    """
    folder = Path(path)
    document = load_document(folder)
    if document["kind"] not in _MODELS:
        raise ReleaseError(
            f"{folder} holds a model of kind '{document['kind']}'; known: {', '.join(_MODELS)}."
        )
    try:
        return _MODELS[document["kind"]].load(folder, document)
    except (KeyError, TypeError) as error:
        raise ReleaseError(f"{folder / 'model.json'} is incomplete: {error}.") from error
