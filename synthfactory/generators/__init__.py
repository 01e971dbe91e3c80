"""What learns a table: specifications, and the models that they fit."""

from __future__ import annotations

from pathlib import Path

from synthfactory import plugins
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
from synthfactory.generators.provided import check_drawn as check_drawn
from synthfactory.generators.provided import check_fitted as check_fitted
from synthfactory.generators.provided import check_provided as check_provided
from synthfactory.generators.provided import check_saved as check_saved
from synthfactory.generators.provided import load_foreign, load_model_class
from synthfactory.generators.provided import load_generator as load_generator
from synthfactory.generators.provided import offer_of as offer_of
from synthfactory.generators.provided import offer_of_model as offer_of_model
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

    Its kind decides what loads it: a kind of this package, or one that an installed package offers
    (`synthfactory.plugins`).  Nothing else that the folder says is imported or called.

    Raises
    ------
    ReleaseError
        When the folder holds no model, files that were changed, or a kind that nobody offers.
    PluginError
        When two packages claim the kind, or the one that offers it does not work.
    """
    folder = Path(path)
    document = load_document(folder)
    kind = str(document["kind"])
    if kind not in _MODELS:
        foreign = load_model_class(kind)
        if foreign is None:
            raise ReleaseError(_nobody_offers(folder, kind, document.get("package")))
        return load_foreign(foreign, folder, document)
    try:
        return _MODELS[kind].load(folder, document)
    except (KeyError, TypeError) as error:
        raise ReleaseError(f"{folder / 'model.json'} is incomplete: {error}.") from error


def _nobody_offers(folder: Path, kind: str, package: object) -> str:
    """Why a model cannot be loaded, and what would help."""
    installed = sorted({*_MODELS, *(offer.name for offer in plugins.offers(plugins.MODELS))})
    told = f", {package} as the folder says" if isinstance(package, str) else ""
    return (
        f"{folder} holds a model of kind '{kind}'; installed kinds: {', '.join(installed)}. "
        f"Install the package that provides it{told}."
    )
