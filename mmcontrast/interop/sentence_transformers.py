"""sentence-transformers: our InfoNCE as a loss that its trainers take.

::

    loss = InfoNCELoss(model, temperature=0.05, symmetric=True)
    SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss).train()

Columns of the data set are anchors, their positives and any number of mined negatives, as for its
``MultipleNegativesRankingLoss``. ``forward`` returns a dict with a part for each direction, which
the trainer sums and logs one by one.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.distributed import Group
from mmcontrast.infonce import info_nce
from mmcontrast.rows import RowMap, l2_normalize
from mmcontrast.temperature import LearnableTemperature, current

__all__ = ["InfoNCELoss"]

CITATIONS = {
    False: """
@article{oord2018representation,
    title={Representation Learning with Contrastive Predictive Coding},
    author={van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol},
    journal={arXiv preprint arXiv:1807.03748},
    year={2018}
}
""",
    True: """
@inproceedings{radford2021learning,
    title={Learning Transferable Visual Models From Natural Language Supervision},
    author={Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel
        and Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and
        Clark, Jack and Krueger, Gretchen and Sutskever, Ilya},
    booktitle={International Conference on Machine Learning},
    year={2021}
}
""",
}


class InfoNCELoss(nn.Module):
    r""":func:`mmcontrast.info_nce` on the embeddings of a sentence-transformers model.

    Every anchor is contrasted with the positives and the negatives of the whole batch. The loss is
    ``query_to_doc``; where it is symmetric, half of that and half of ``doc_to_query``, which
    contrasts every positive with all anchors.

    Args:
        model: a SentenceTransformer, or any module that returns a dict with ``sentence_embedding``.
        temperature: a float, or a :class:`LearnableTemperature`, which is then trained too.
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
        parts = {"query_to_doc": self._one_way(anchors, torch.cat(documents))}
        if self.symmetric:
            parts["doc_to_query"] = self._one_way(documents[0], anchors)
        parts = {name: part / len(parts) for name, part in parts.items()}
        return parts if self.components else torch.stack(list(parts.values())).sum()

    def _one_way(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        return info_nce(
            anchors,
            candidates,
            temperature=current(self.temperature),
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
        return CITATIONS[self.symmetric]
