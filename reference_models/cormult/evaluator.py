"""CorMulT's modality correlation evaluator and its training: arXiv:2407.07046, 3.2 and 4.2-4.4."""

from collections.abc import Mapping
from itertools import combinations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

import mmcontrast as mm
from mmcontrast.distances import Distance
from reference_models.cormult.settings import DISTANCES, CorMulTConfig
from reference_models.data.batch import Batch
from reference_models.layers.inputs import sequences
from reference_models.layers.output import Output
from reference_models.layers.transformer import DROPOUTS, Transformer

SEED = 0  # of the negatives in evaluation


class CorrelationMap(nn.Module):
    """One modality in the common space: (B, T, D) features, or (B, T) token ids, to (B, t, o).

    Padding contributes nothing; a sample without a real step is zero.

    Args:
        projection: of a step, to ``config.evaluator_size``.
        config: CorMulT's.
    """

    def __init__(self, projection: nn.Linear | nn.Embedding, config: CorMulTConfig):
        super().__init__()
        self.config = config
        self.projection = projection
        # This transformer scales its input before it adds the positions; the paper does not.
        self.transformer = Transformer(
            config.evaluator_size,
            layers=config.evaluator_layers,
            heads=config.evaluator_heads,
            feedforward=config.evaluator_feedforward,
            order="normed" if config.norm == "paper" else "post",
            **dict.fromkeys(DROPOUTS, config.evaluator_dropout),
        )
        self.features = nn.Linear(config.evaluator_size, config.correlation_size)
        if config.temporal_map == "linear":
            # No bias: every sample would share it, even one without a real step.
            self.time = nn.Linear(config.max_steps, config.correlation_steps, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """A sequence and its mask (B, T), to (B, t, o); t = 1 where there is no temporal map."""
        x = self.features(self.transformer(self.projection(x), mask))
        x = x.masked_fill(~mask.unsqueeze(-1), 0)
        length, config = mask.sum(1), self.config
        if config.temporal_map == "linear":
            if x.shape[1] > config.max_steps:
                x = _pooled(x, mask, length.clamp(max=config.max_steps), config.max_steps)
            # A map of the time axis: the weights of absent steps meet zeros, and are left out.
            mapped = F.linear(rearrange(x, "b s o -> b o s"), self.time.weight[:, : x.shape[1]])
            return rearrange(mapped, "b o t -> b t o")
        steps = 1 if config.temporal_map == "none" else config.correlation_steps
        return _pooled(x, mask, torch.full_like(length, steps), steps)


def _pooled(x: Tensor, mask: Tensor, parts: Tensor, steps: int) -> Tensor:
    """Means over ``parts`` (B,) equal parts of the real steps, (B, T, o) to (B, steps, o).

    Uneven parts overlap, as in ``adaptive_avg_pool1d``. Beyond a sample's parts all is zero.
    """
    # Part i of a sample is its real steps from floor(i * length / parts) to
    # ceil((i + 1) * length / parts). As a matrix of shares over its steps, a mean is a product.
    part = torch.arange(steps, device=x.device)
    length, parts = (rearrange(n, "b -> b 1") for n in (mask.sum(1), parts.clamp(min=1)))
    start, end = part * length // parts, -(-(part + 1) * length // parts)  # (B, steps)
    place = rearrange(mask.cumsum(1) - 1, "b s -> b 1 s")  # of a real step among the real ones
    start, end, used = (rearrange(y, "b t -> b t 1") for y in (start, end, part < parts))
    within = (place >= start) & (place < end) & rearrange(mask, "b s -> b 1 s")
    shares = (within & used).to(x.dtype)  # (B, steps, S)
    return shares / shares.sum(-1, keepdim=True).clamp(min=1) @ x


class Evaluator(nn.Module):
    """The correlation of any two modalities of a sample: the cosine of their maps.

    Args:
        config, sizes: CorMulT's.
        text_encoder: the encoder that the token ids of a batch are for. Only its config is read:
            the evaluator has its own embedding of the ids. None: text is features.
    """

    def __init__(
        self,
        config: CorMulTConfig,
        sizes: Mapping[str, int],
        text_encoder: PreTrainedModel | None = None,
    ):
        super().__init__()
        self.reduce = config.reduce
        self.maps = nn.ModuleDict()
        for name, size in sizes.items():
            if name == "text" and text_encoder is not None:
                projection = nn.Embedding(text_encoder.config.vocab_size, config.evaluator_size)
                # The transformer multiplies by this root; undo it, or the positions would be
                # negligible beside the embedding.
                projection.weight.data /= config.evaluator_size**0.5
            else:
                projection = nn.Linear(size, config.evaluator_size)
            self.maps[name] = CorrelationMap(projection, config)

    @torch.no_grad()
    def forward(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """By pair, in both orders: (B,) in [-1, 1], without gradient; 0 where one is absent."""
        features, masks = evaluator_inputs(batch, self.maps)
        maps = {name: part(features[name], masks[name]) for name, part in self.maps.items()}
        found = {}
        for m, n in combinations(maps, 2):
            cosine = mm.modality_correlation(maps[m], maps[n], reduce=self.reduce)
            found[m, n] = found[n, m] = cosine
        return found


def evaluator_inputs(
    batch: Batch, maps: nn.ModuleDict
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The inputs of the maps, zero on padding, and their masks (B, T).

    Raises:
        ValueError: a modality that the batch lacks, or text of the other kind.
    """
    features, masks = {}, {}
    for name, part in maps.items():
        if isinstance(part.projection, nn.Embedding) and name in batch.features:
            ids = batch.features[name]
            if ids.ndim != 2 or ids.is_floating_point():
                raise ValueError(
                    f"features[{name!r}]: expected token ids of shape (B, L),"
                    f" got {ids.dtype} of shape {tuple(ids.shape)}"
                )
            masks[name] = batch.masks[name] & batch.present[name].unsqueeze(1)
            features[name] = ids.masked_fill(~masks[name], 0)
        else:
            features[name], masks[name] = sequences(batch, (name,), None)[name]
    return features, masks


class Pretraining(nn.Module):
    """Trains an evaluator's maps: a sample's modalities against altered ones, without labels.

    Args:
        evaluator: its maps are trained in place; they take gradients from here on.
        config: CorMulT's.
        modalities: two or more of the evaluator's.
        generator: draws the negatives in training, on the maps' device; None: torch's default. In
            evaluation every batch has the same draws, so that epochs can be compared.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        config: CorMulTConfig,
        modalities: tuple[str, ...],
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.config = config
        self.generator = generator
        self.maps = nn.ModuleDict({name: evaluator.maps[name] for name in modalities})
        self.requires_grad_(True)

    def forward(self, batch: Batch) -> Output:
        """The triplet losses of eq 8, a term for each modality; labels are not read."""
        config = self.config
        features, masks = evaluator_inputs(batch, self.maps)
        generator = self.generator
        if not self.training:
            device = next(iter(masks.values())).device
            generator = torch.Generator(device).manual_seed(SEED)
        text = self.maps["text"].projection if "text" in self.maps else None
        negatives = altered(features, masks, config, text, generator)
        # A triplet stays within a sample, but the mean over the triplets and the covariance of the
        # Mahalanobis distance are over the whole batch: gather the rows of all ranks.
        rows = mm.gather if self.training else (lambda x: x)
        maps, others, changed, present = {}, {}, {}, {}
        for name, part in self.maps.items():
            maps[name] = rows(part(features[name], masks[name]))
            others[name] = rows(part(negatives.features[name], negatives.masks[name]))
            changed[name] = rows(negatives.altered[name])
            present[name] = rows(masks[name].any(1))
        terms = mm.modality_correlation_triplet(
            maps,
            others,
            altered=changed,
            present=present,
            margin=config.margin,
            distance=DISTANCES[config.distance] or mahalanobis(maps, present, config.reduce),
            reduce=config.reduce,
            skip_unaltered=config.skip_unaltered,
        )
        return Output(None, terms, None)


def altered(
    features: dict[str, Tensor],
    masks: dict[str, Tensor],
    config: CorMulTConfig,
    text: nn.Module | None,
    generator: torch.Generator | None,
) -> mm.Negatives:
    """The negatives of a batch; ``text`` is the projection of text, if there is text."""
    drawn = {"masks": masks, "generator": generator}
    moved = {"steps": config.shift_steps, "shift_all": config.shift_all}
    noise, words = {"std": config.noise}, {}
    if isinstance(text, nn.Embedding):
        words = {"vocabulary_size": text.num_embeddings, "probability": config.replaced_tokens}
    if config.negative_strategy == "A":
        return mm.swap(features, **drawn)
    if config.negative_strategy == "B":
        return mm.shift(features, **moved, **drawn)
    if config.negative_strategy == "D":
        return mm.mixed_negatives(features, **moved, **noise, **words, **drawn)
    noisy = mm.add_noise(features, **noise, **drawn)
    if not words:
        return noisy
    other = mm.replace_tokens(noisy.features, **words, **drawn)
    return other._replace(altered={**noisy.altered, "text": other.altered["text"]})


def mahalanobis(maps: dict[str, Tensor], present: dict[str, Tensor], reduce: str) -> Distance:
    """The Mahalanobis distance for the covariance of the batch's steps; it takes no gradient.

    The paper does not say of what the covariance is. Flattened maps have 12,800 features, too many
    for a batch; this one is of the 200 features of a step, over all modalities, shrunk by a tenth
    towards a multiple of the identity.
    """
    steps = {m: x.mean(1, keepdim=True) if reduce == "mean" else x for m, x in maps.items()}
    rows = torch.cat([rearrange(x.detach().double(), "b t o -> (b t) o") for x in steps.values()])
    here = torch.cat([repeat(present[m], "b -> (b t)", t=x.shape[1]) for m, x in steps.items()])
    size = rows.shape[1]
    # cov refuses weights that are all 0; the rows of absent modalities are zero themselves.
    weights = here.double().clamp(min=1e-12)
    covariance = rows.T.cov(correction=0, aweights=weights).reshape(size, size)
    spread = 0.1 * covariance.trace() / size + 1e-6  # not 0, even if all steps are equal
    whiten = mm.Mahalanobis(0.9 * covariance + spread * torch.eye(size).to(covariance)).whiten

    def distance(x: Tensor, y: Tensor) -> Tensor:
        # Rows are flattened maps: whiten each step, then flatten again.
        maps = (whiten(rearrange(row, "... (t o) -> ... t o", o=size)) for row in (x, y))
        return mm.euclidean(*(rearrange(row, "... t o -> ... (t o)") for row in maps))

    return distance
