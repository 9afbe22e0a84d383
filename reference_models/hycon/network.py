"""HyCon: hybrid contrastive learning of three modalities, and HyCon-v2 with selected pairs.

References: HyCon, IEEE Transactions on Affective Computing 14(3):2276-2289, 2023.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import PreTrainedModel

import mmcontrast as mm
from mmcontrast import LossTerms
from reference_models.data.batch import Batch
from reference_models.hycon.encoder import SequenceEncoder
from reference_models.hycon.fusion import make_fusion
from reference_models.hycon.settings import HyConConfig
from reference_models.hycon.substitutes import SIMILARITIES, SUBSTITUTES, substitute_contrast
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import last_step
from reference_models.layers.text_encoder import read_text
from reference_models.layers.transformer import DROPOUTS


class HyCon(nn.Module):
    """HyCon's network on two or three modalities, with its losses.

    One representation for each modality, their fusion, and one linear layer. A modality that a
    sample lacks is a zero vector in the fusion and is left out of the contrast; its values are
    never read.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality: "text", "audio", "vision", two or more of them. With a
            text encoder the text's size is the encoder's, and the one given here is not read.
        text_encoder: reads token ids; its states pass a convolution only. Without it, text is
            precomputed features in a sequence encoder like those of the other modalities.
        generator: draws the pairs of the random substitutes, on the model's device; None: torch's
            default generator. It is not saved with the weights.

    Raises:
        ValueError: fewer than two modalities, unknown ones, or a text encoder without text.
    """

    def __init__(
        self,
        config: HyConConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder)
        self.config = config
        self.generator = generator
        self.text_encoder = text_encoder
        self.encoders = nn.ModuleDict()
        for name, size in widths(sizes, text_encoder).items():
            encoded = name == "text" and text_encoder is not None
            self.encoders[name] = SequenceEncoder(
                size,
                config.hidden_size,
                kernel_size=config.kernel_size,
                layers=0 if encoded else config.layers,
                heads=config.heads,
                **{dropout: getattr(config, dropout) for dropout in DROPOUTS},
            )
        self.fusion = make_fusion(config.fusion, sizes, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, HEADS[config.head])

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: all four in training, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of
                another shape than (B,), for IEMOCAP (B, 4).
        """
        features, present = self._represent(batch)
        fused = self.fusion(features)  # (B, hidden_size)
        prediction = shaped(self.head(fused), self.config.head)
        terms = None
        if batch.labels is not None:
            task = task_loss(prediction, batch.labels, self.config.head)
            terms = LossTerms({"task": task})
            if self.training:
                terms = self._losses(task, features, present, batch.labels)
        return Output(prediction, terms, fused)

    def _represent(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By modality: the representation (B, d), and where it is present (B,)."""
        features, present = {}, {}
        for name, (steps, mask) in sequences(batch, self.encoders, self.text_encoder).items():
            present[name] = mask.any(1)
            if self.config.last == "index" and name == "text" and self.text_encoder is not None:
                # The last index is mostly padding: read the encoder's states there, too.
                steps = read_text(self.text_encoder, batch.features[name], mask, padding=True)
                mask = rearrange(present[name], "b -> b 1").expand_as(mask)  # (B, T)
            states = self.encoders[name](steps, mask)  # (B, T, hidden_size)
            features[name] = last_step(states, mask, last=self.config.last)  # (B, hidden_size)
        return features, present

    def _losses(
        self, task: Tensor, features: dict[str, Tensor], present: dict[str, Tensor], labels: Tensor
    ) -> LossTerms:
        """Eq 16, the task's loss and the three contrastive terms; or substitutes for two of them.

        With a substitute, the intra- and inter-modal terms of ``hybrid_contrast`` have weight 0,
        are not computed, and are replaced below.
        """
        config = self.config
        classes = labels if config.head != "regression" else _classes(labels, config)
        normalize, substituted = (
            SIMILARITIES[config.similarity],
            config.supervised_loss in SUBSTITUTES,
        )
        intra, inter = (0, 0) if substituted else (config.intra_weight, config.inter_weight)
        terms = mm.hybrid_contrast(
            features,
            classes,
            margin=config.margin,
            weights=(intra, inter, config.semi_weight),
            refine=config.refine,
            log=config.log,
            selection=_selection(config),
            refine_on=config.refine_on,
            normalize=normalize,
            present=present,
            group="world",
        )
        terms = {"task": task, **terms}
        weights = {term: getattr(config, f"{term}_weight") for term in ("intra", "inter", "semi")}
        if substituted:
            # hybrid_contrast gathers by itself; the substitutes need the rows of all ranks here.
            features, present = (
                {name: mm.gather(x) for name, x in rows.items()} for rows in (features, present)
            )
            classes = mm.gather(classes)
        for name, pairs in (("intra", mm.intra_modal_pairs), ("inter", mm.inter_modal_pairs)):
            if substituted and weights[name] != 0:
                terms[name] = substitute_contrast(
                    pairs(features, classes, present=present),
                    loss=config.supervised_loss,
                    normalize=normalize,
                    log=config.log,
                    generator=self.generator,
                )
        return LossTerms(terms, weights)


def _classes(scores: Tensor, config: HyConConfig) -> Tensor:
    """(B,) the classes of the contrast; a NaN score belongs to no class."""
    if config.classes == "seven":
        return scores.clamp(-3, 3).round()
    return mm.sentiment_classes(scores, neutral=config.neutral)


def _selection(config: HyConConfig) -> mm.PairSelection | None:
    """HyCon-v2's selection of pairs (eq 13-15); None for HyCon, which takes all."""
    if config.supervised_loss != "hycon_v2":
        return None
    return mm.PairSelection(
        fraction=config.selection_fraction,
        gamma=config.selection_gamma,
        positives=config.select_positives,
        negatives=config.select_negatives,
        unselected=config.unselected,
        inter_factor=config.inter_factor,
    )
