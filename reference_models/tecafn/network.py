"""TeCaFN: text-centred fusion, trained with modalities replaced by hard negatives.

References: TeCaFN, Multimedia Systems 30(4):228, 2024.
"""

from collections.abc import Mapping

import torch
from einops import pack, rearrange, reduce
from torch import Tensor, nn
from transformers import PreTrainedModel

import mmcontrast as mm
from reference_models.data.batch import Batch
from reference_models.layers.heads import HEADS, shaped, task_loss
from reference_models.layers.inputs import Sequence, check_sizes, sequences, widths
from reference_models.layers.output import Output
from reference_models.layers.pooling import masked_mean
from reference_models.layers.transformer import DROPOUTS, Transformer
from reference_models.tecafn.settings import TeCaFNConfig


class TeCaFN(nn.Module):
    """TeCaFN's network, with its losses.

    The centre, text, attends to each other modality, or to itself where there is no other; the
    results are fused for the prediction. In training a gate replaces some samples' audio or vision
    by that of a similar sample: the network has to detect the replacement, and still to predict
    the score of the text.

    A modality that a sample lacks contributes nothing to the centre, is never replaced, replaces no
    other, and is left out of every contrast.

    Args:
        config: of the network and the losses.
        sizes: feature dimension by modality, the centre among them. With a text encoder the text's
            size is the encoder's, and the one given here is not read.
        text_encoder: reads token ids. Without it, text is precomputed states.
        generator: draws the replacements, on the model's device; None: torch's default generator.

    Raises:
        ValueError: unknown modalities, a missing centre, or a text encoder without text.
    """

    def __init__(
        self,
        config: TeCaFNConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check_sizes(sizes, text_encoder, fewest=1)
        if config.center not in sizes:
            raise ValueError(f"sizes: expected the centre, {config.center}, got {tuple(sizes)}")
        self.config, self.generator = config, generator
        self.modalities, self.text_encoder = tuple(sizes), text_encoder
        d, size, center = widths(sizes, text_encoder), config.hidden_size, config.center
        self.encoders = nn.ModuleDict({m: Encoder(d[m], config) for m in sizes if m != "text"})
        d |= dict.fromkeys(self.encoders, size)
        others = [name for name in sizes if name != center]
        self.attention = nn.ModuleDict(
            {name: Attention(d[center], d[name], config) for name in others or [center]}
        )
        self.ranking, self.pair_heads = nn.ModuleDict(), nn.ModuleDict()
        for name in others:
            contrasted = config.contrast_weight > 0 and name in config.unimodal_contrast
            gated = name in config.gate
            if contrasted or (gated and name in config.hard_mining):
                # Without its contrast a ranking is not trained: like the paper's code, mine with
                # random projections then.
                ranking = _linears(d[center], d[name], config.contrast_size)
                self.ranking[name] = ranking.requires_grad_(contrasted)
            if gated and config.pair_weight > 0:
                layers = nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2)
                self.pair_heads[name] = nn.Sequential(*layers)
        self.bimodal = None
        if len(others) == 2 and config.bimodal_contrast and config.contrast_weight > 0:
            self.bimodal = _linears(size, size, config.contrast_size)
        self.head = _prediction_layers(
            size * (len(self.attention) if config.fusion == "concat" else 1), config
        )

    def forward(self, batch: Batch) -> Output:
        """Predict, and with labels compute the losses: all four in training, else the task's.

        Raises:
            ValueError: a modality that the batch lacks, text of the other kind, or labels of
                another shape than the head's.
        """
        config = self.config
        states = sequences(batch, self.modalities, self.text_encoder)
        states |= {name: encoder(states[name]) for name, encoder in self.encoders.items()}
        center = states[config.center]
        losses: dict[str, list[Tensor]] = {"unimodal": [], "bimodal": [], "pair": []}
        # By modality: what the centre has after attending to it, (B, hidden_size).
        attended = [self._attend(name, center, states[name], losses) for name in self.attention]
        if self.training and self.bimodal is not None:
            x, y = (embed(vector) for embed, vector in zip(self.bimodal, attended, strict=True))
            counted = reduce([x.present for x in states.values()], "m b -> b", "all")
            losses["bimodal"] = [self._contrast(x, y, counted), self._contrast(y, x, counted)]
        fused = pack(attended, "b *")[0] if config.fusion == "concat" else sum(attended)
        prediction = shaped(self.head(fused), config.head)
        if config.output is not None and config.head == "regression":
            prediction = prediction.tanh() * (3 if config.output == "3tanh" else 1)
        if batch.labels is None:
            return Output(prediction, None, fused)
        task = task_loss(prediction, batch.labels, config.head)
        if not self.training:
            return Output(prediction, mm.LossTerms({"task": task}), fused)
        # The keys are always the same; a term without a loss is 0 and has the weight 0.
        weights = dict.fromkeys(losses, config.contrast_weight) | {"pair": config.pair_weight}
        weights = {term: weights[term] if found else 0.0 for term, found in losses.items()}
        terms = {term: sum(found, torch.zeros_like(task)) for term, found in losses.items()}
        return Output(prediction, mm.LossTerms({"task": task, **terms}, weights), fused)

    def _attend(
        self, name: str, center: Sequence, other: Sequence, losses: dict[str, list[Tensor]]
    ) -> Tensor:
        """The centre after attending to a modality, (B, d); in training through the gate.

        Appends the losses of this modality to ``losses``. A sample that lacks the centre or the
        modality is not replaced, and counts in no loss.
        """
        config, both = self.config, center.present & other.present  # (B,)
        ranked = gate = None
        # 1. Embeddings by which the centre ranks other samples' modality; their contrast (eq 6).
        if self.training and name in self.ranking:
            f, g = self.ranking[name]
            ranked = f(masked_mean(*center)), g(masked_mean(*other))
            if config.contrast_weight > 0 and name in config.unimodal_contrast:
                losses["unimodal"].append(self._contrast(*ranked, both))
        # 2. The gate (Table 2): replace the modality of some samples by a hard negative's (eq 7).
        if self.training and name in config.gate and name != config.center:
            # Row i may take the modality of sample j where i has both and j has the modality.
            allowed, generator = rearrange(both, "b -> b 1") & other.present, self.generator
            if name in config.hard_mining:  # by the cosine of eq 7, whatever the contrast uses
                pool = mm.hard_negatives(
                    *ranked,
                    config.pool_size,
                    allowed=allowed,
                    exclude_positive=config.exclude_positive == "first" or "after",
                )
            else:
                pool = mm.uniform_negatives(both, len(both), allowed=allowed, generator=generator)
            gate = mm.replacement_gate(pool, probability=config.probability, generator=generator)
            other = Sequence(*gate.take(*other))
        # 3. Attention to the modality (eq 8-12), and a prediction whether it was replaced (eq 14).
        vector = masked_mean(self.attention[name](center, other), center.mask)
        if gate is not None and name in self.pair_heads:
            logits = self.pair_heads[name](vector)
            losses["pair"].append(mm.pair_prediction(logits, gate.paired, keep=both))
        return vector

    def _contrast(self, queries: Tensor, keys: Tensor, counted: Tensor) -> Tensor:
        """Each query picks its own key among those of all ranks; ``counted`` (B,) masks rows."""
        config = self.config
        normalize = mm.l2_normalize if config.normalize else None
        options = {"temperature": config.temperature, "normalize": normalize, "group": "world"}
        if config.denominator == "paper_literal":
            return mm.matched_pair_nce(queries, keys, keep=counted, **options)
        keep = rearrange(counted, "b -> b 1") & mm.gather(counted)  # (B, samples of all ranks)
        return mm.info_nce(queries, keys, keep=keep, **options)


class Encoder(nn.Module):
    """Eq 2-4 for audio and vision: a linear layer, self-attention, and the LSTM if configured."""

    # The authors' code ends with two linear layers without a nonlinearity. They are left out: every
    # layer that follows begins with a linear one.

    def __init__(self, in_features: int, config: TeCaFNConfig):
        super().__init__()
        size = config.hidden_size
        self.input = nn.Linear(in_features, size, bias=False)
        self.transformer = _transformer(config)
        self.lstm = nn.LSTM(size, size, batch_first=True) if config.lstm else None

    def forward(self, sequence: Sequence) -> Sequence:
        """Steps (B, T, in_features) with their mask to (B, T, d) with the same."""
        steps = self.transformer(self.input(sequence.steps), sequence.mask)
        if self.lstm is not None:
            padding = rearrange(~sequence.mask, "b t -> b t 1")
            steps, _ = self.lstm(steps.masked_fill(padding, 0))
        return sequence._replace(steps=steps)


class Attention(nn.Module):
    """Eq 5 and 8-12: attention from the centre, the query, to another modality."""

    def __init__(self, center_size: int, other_size: int, config: TeCaFNConfig):
        super().__init__()
        size = config.hidden_size
        self.query, self.context = _linears(center_size, other_size, size)
        self.transformer = _transformer(config)
        self.output = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def forward(self, center: Sequence, other: Sequence) -> Tensor:
        """(B, T, d) for the centre's (B, T, center_size) and the other's (B, S, other_size)."""
        query, context = self.query(center.steps), self.context(other.steps)
        return self.output(self.transformer(query, center.mask, context, other.mask))


def _transformer(config: TeCaFNConfig) -> Transformer:
    settings = {name: getattr(config, name) for name in ("layers", "heads", *DROPOUTS)}
    return Transformer(config.hidden_size, order=config.residual, **settings)


def _linears(first: int, second: int, size: int) -> nn.ModuleList:
    """The paper's f1 and f2, or g1 and g2: on a mean over time, a pointwise convolution."""
    return nn.ModuleList(nn.Linear(width, size, bias=False) for width in (first, second))


def _prediction_layers(size: int, config: TeCaFNConfig) -> nn.Sequential:
    """From the fused vector to the head's outputs, with layers of 128, 256 and 128."""
    p, outputs = config.head_dropout, HEADS[config.head]
    first = [nn.Dropout(p), nn.Linear(size, 128), nn.Tanh(), nn.Linear(128, 256), nn.Tanh()]
    last = [nn.Dropout(p), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, outputs)]
    return nn.Sequential(*first, *last)
