"""sentence-transformers: our InfoNCE as a loss that its trainers take.

::

    loss = InfoNCELoss(model, temperature=LearnableTemperature(0.05), symmetric=True)
    trainer = SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss)
    checkpoint_loss(trainer)  # its checkpoints are of the model alone: without it, a resumed
    trainer.train()           # run restarts from the first temperature

Columns of the data set are anchors, their positives and any number of mined negatives, as for its
``MultipleNegativesRankingLoss``. ``forward`` returns a dict with a part for each direction, which
the trainer sums and logs one by one.
"""

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.citations import entries
from mmcontrast.distributed import Group
from mmcontrast.infonce import info_nce
from mmcontrast.learned import replicated
from mmcontrast.rows import RowMap, l2_normalize
from mmcontrast.temperature import LearnableTemperature, current

__all__ = ["InfoNCELoss", "checkpoint_loss"]

FILE = "loss.pt"  # in each checkpoint's folder


class InfoNCELoss(nn.Module):
    r""":func:`mmcontrast.info_nce` on the embeddings of a sentence-transformers model.

    Every anchor is contrasted with the positives and the negatives of the whole batch. The loss is
    ``query_to_doc``; where it is symmetric, half of that and half of ``doc_to_query``, which
    contrasts every positive with all anchors.

    Args:
        model: a SentenceTransformer, or any module that returns a dict with ``sentence_embedding``.
        temperature: a float, or a :class:`LearnableTemperature`, which is then trained too;
            :func:`checkpoint_loss` makes the library's trainer save and restore it.
        symmetric: both directions.
        components: return the parts by name. False returns their sum, which the library's wrappers
            need (``MatryoshkaLoss``, ``AdaptiveLayerLoss``: they cannot multiply a dict).
        normalize, chunk_size: as in :func:`mmcontrast.info_nce`.
        group: a process group, or ``"world"``: the candidates are those of all ranks.

    Raises:
        ValueError: on a temperature that is not positive; when called, on fewer than two columns.

    Note:
        Equals ``MultipleNegativesRankingLoss(model, scale=1 / temperature)``; symmetric, its
        ``directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"``. Its "joint"
        partition is one softmax over both directions, a different loss.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: float | LearnableTemperature = 0.05,
        symmetric: bool = False,
        components: bool = True,
        normalize: RowMap | None = l2_normalize,
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        if not isinstance(temperature, nn.Module):
            arguments.temperature(temperature)
        self.model = model
        self.temperature = temperature
        self.symmetric = symmetric
        self.components = components
        self.normalize = normalize
        self.chunk_size = chunk_size
        self.group = group

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """The parts of the loss by direction, of which the loss is the sum; or the loss.

        Args:
            sentence_features: the model's inputs, for each column.
            labels: not used.
        """
        return self.compute_loss_from_embeddings(self._embed(sentence_features), labels)

    def compute_loss_from_embeddings(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """The same from embeddings, (B, D) of each column: anchors, positives, negatives."""
        if len(embeddings) < 2:
            arguments.fail("embeddings", "anchors and positives at least", len(embeddings))
        anchors, *documents = embeddings
        # For several ranks the trainer wraps the model, not the loss: each would go its own way.
        temperature = replicated(current(self.temperature), "world", anchors)
        parts = {"query_to_doc": self._one_way(anchors, torch.cat(documents), temperature)}
        if self.symmetric:
            parts["doc_to_query"] = self._one_way(documents[0], anchors, temperature)
        parts = {name: part / len(parts) for name, part in parts.items()}
        return parts if self.components else torch.stack(list(parts.values())).sum()

    def _one_way(self, anchors: Tensor, candidates: Tensor, temperature: float | Tensor) -> Tensor:
        return info_nce(
            anchors,
            candidates,
            temperature=temperature,
            normalize=self.normalize,
            chunk_size=self.chunk_size,
            group=self.group,
        )

    def _embed(self, sentence_features: Iterable[dict[str, Tensor]]) -> list[Tensor]:
        """The columns' embeddings, in one forward pass if the library can join columns."""
        try:
            library = importlib.import_module("sentence_transformers.base.losses.merged_forward")
        except ModuleNotFoundError:  # before release 6
            return [self.model(column)["sentence_embedding"] for column in sentence_features]
        found: list[Tensor] = library.embed_columns(self.model, sentence_features)
        return found

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for its model cards and ``loss.json``."""
        return {
            "temperature": float(current(self.temperature)),
            "symmetric": self.symmetric,
            "components": self.components,
            "normalize": getattr(self.normalize, "__name__", str(self.normalize)),
            "chunk_size": self.chunk_size,
        }

    @property
    def citation(self) -> str:
        """BibTeX, for its model cards."""
        return entries()["radford2021clip" if self.symmetric else "oord2018cpc"]


def checkpoint_loss(trainer: Any) -> None:
    """Make a trainer of the library save and restore what its loss has learned.

    Its checkpoints hold the model, the optimizer and the scheduler. A learned temperature, or any
    parameter or buffer of a loss that is not the model's, starts again at its first value when a
    run is resumed, and keeps its last one when the best model is loaded. After this call every
    folder that the trainer saves has them in ``loss.pt``, and whatever it loads restores them.

    Args:
        trainer: a ``SentenceTransformerTrainer``, or another of the library's trainers, with one
            loss or a dict of them; before ``train()``.

    Raises:
        ValueError: on something else; later, on a checkpoint without such a file, or one of
            another loss, of which nothing is then loaded.
    """
    needed = ("loss", "_save", "_load_from_checkpoint")
    if not all(hasattr(trainer, name) for name in needed):
        got = type(trainer).__name__
        arguments.fail("trainer", "a trainer of sentence-transformers, release 3 or later", got)
    save, load = trainer._save, trainer._load_from_checkpoint

    def saved(output_dir: str | None = None, state_dict: Any = None) -> None:
        save(output_dir, state_dict)
        folder = trainer.args.output_dir if output_dir is None else output_dir
        torch.save(_own_states(trainer), Path(folder, FILE))

    def loaded(checkpoint_path: str) -> None:
        states = _states_of(checkpoint_path, trainer)
        load(checkpoint_path)
        for name, loss in _losses(trainer).items():
            loss.load_state_dict(states[name], strict=False)

    trainer._save, trainer._load_from_checkpoint = saved, loaded


def _losses(trainer: Any) -> dict[str, nn.Module]:
    return trainer.loss if isinstance(trainer.loss, dict) else {"": trainer.loss}


def _own_states(trainer: Any) -> dict[str, dict[str, Any]]:
    """The state of each loss without that of the model, wherever a loss holds it."""
    models = (trainer.model, getattr(trainer, "model_wrapped", trainer.model))
    found = {}
    for loss_name, loss in _losses(trainer).items():
        inside = [
            f"{name}."
            for name, module in loss.named_modules(remove_duplicate=False)
            if any(module is model for model in models)
        ]
        state = loss.state_dict()
        found[loss_name] = {k: x for k, x in state.items() if not k.startswith(tuple(inside))}
    return found


def _states_of(folder: str, trainer: Any) -> dict[str, dict[str, Any]]:
    """What a folder holds; refused unless it is of the same losses."""
    path = Path(folder, FILE)
    if not path.is_file():
        arguments.fail("checkpoint", f"{FILE} in it, from a run with checkpoint_loss", folder)
    states: dict[str, dict[str, Any]] = torch.load(path, map_location="cpu", weights_only=True)
    found, expected = (
        {name: sorted(state) for name, state in given.items()}
        for given in (states, _own_states(trainer))
    )
    if found != expected:
        arguments.fail("checkpoint", f"a state of the losses {expected} in {FILE}", found)
    return states
