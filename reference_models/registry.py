"""The papers' folders, one line each, and the models that they bring, by name."""

from importlib import import_module

from reference_models.paper import Paper

FOLDERS = (
    "reference_models.hycon",
    "reference_models.tecafn",
    "reference_models.mcl_mcf",
    "reference_models.mfon",
    "reference_models.cormult",
    "reference_models.text_only",
)
MODELS: dict[str, Paper] = {}
"""By name, in the order of the folders."""


def register(folder: str) -> None:
    """Add the models of a package: those in its ``PAPERS``.

    Raises:
        ValueError: a model of that name is there already.
    """
    for paper in import_module(folder).PAPERS:
        if paper.name in MODELS:
            raise ValueError(f"{folder}: expected a new name, got {paper.name!r}, which exists")
        MODELS[paper.name] = paper


for _folder in FOLDERS:
    register(_folder)


def find(name: str) -> Paper:
    """The model of that name.

    Raises:
        ValueError: lists the models that exist.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]
