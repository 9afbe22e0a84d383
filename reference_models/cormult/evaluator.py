"""CorMulT's modality correlation evaluator and its training: arXiv:2407.07046, 3.2 and 4.2-4.4."""

from collections.abc import Mapping
from itertools import combinations

import torch
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
    """One modality in the space that all share: (B, T, D) features, or (B, T) ids, to (B, t, o).

    Padding contributes nothing, and a sample without one real step is zero.

    Args:
        projection: of a step, to ``config.evaluator_size``.
        config: as CorMulT has it.
    """

    def __init__(self, projection: nn.Linear | nn.Embedding, config: CorMulTConfig):
        super().__init__()
        self.config = config
        self.projection = projection
        # The paper does not scale before the positions, as this transformer does.
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
            # No bias: all samples would have it in common, those without a step too.
            self.time = nn.Linear(config.max_steps, config.correlation_steps, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """A sequence and its mask (B, T), to (B, t, o); t = 1 where there is no temporal map."""
        x = self.features(self.transformer(self.projection(x), mask))
        x = x.masked_fill(~mask.unsqueeze(-1), 0)
        length, config = mask.sum(1), self.config
        if config.temporal_map == "linear":
            if x.shape[1] > config.max_steps:
                x = _pooled(x, mask, length.clamp(max=config.max_steps), config.max_steps)
            return F.linear(x.mT, self.time.weight[:, : x.shape[1]]).mT
        steps = 1 if config.temporal_map == "none" else config.correlation_steps
        return _pooled(x, mask, torch.full_like(length, steps), steps)


def _pooled(x: Tensor, mask: Tensor, parts: Tensor, steps: int) -> Tensor:
    """Means over ``parts`` (B,) equal parts of the real steps, (B, T, o) to (B, steps, o).

    Uneven parts overlap, as in ``adaptive_avg_pool1d``. Beyond a sample's parts all is zero.
    """
    part = torch.arange(steps, device=x.device)
    length, parts = mask.sum(1)[:, None], parts[:, None].clamp(min=1)
    start, end = part * length // parts, -(-(part + 1) * length // parts)
    place = (mask.cumsum(1) - 1)[:, None]
    within = (place >= start[..., None]) & (place < end[..., None]) & mask[:, None]
    shares = (within & (part < parts)[..., None]).to(x.dtype)
    return shares / shares.sum(-1, keepdim=True).clamp(min=1) @ x


class Evaluator(nn.Module):
    """How much any two modalities of a sample belong together: the cosine of their maps.

    Args:
        config, sizes: as CorMulT has them.
        text_encoder: whose token ids the batch has; only its config is read, for ids are embedded
            anew here. None: text is features.
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
                # The transformer multiplies by this root: the positions would drown.
                projection.weight.data /= config.evaluator_size**0.5
            else:
                projection = nn.Linear(size, config.evaluator_size)
            self.maps[name] = CorrelationMap(projection, config)

    @torch.no_grad()
    def forward(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """(B,) in [-1, 1] by pair, either order, no gradient; 0 where a sample lacks one of two."""
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
    """What the maps take of a batch, zero on padding, and the masks (B, T) of what is there.

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
        evaluator: whose maps are trained, in place; they take gradients from here on.
        config: as CorMulT has it.
        modalities: those that take part, two or more of the evaluator's.
        generator: draws the negatives in training, on the maps' device; None is torch's own. In
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
        # A triplet is within a sample; the mean over them, and a covariance, are the batch's.
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
    """The batch with its modalities torn apart; ``text`` is its projection, if there is text."""
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
    """The distance for the covariance of the batch's steps, the same for each step of a map.

    The paper leaves the covariance open. That of flattened maps would have 12,800 features; this is
    one of a step's 200, over all modalities, shrunk by a tenth towards the identity. A constant.
    """
    steps = {m: x.mean(1, keepdim=True) if reduce == "mean" else x for m, x in maps.items()}
    rows = torch.cat([x.detach().double().flatten(0, 1) for x in steps.values()])
    here = torch.cat([present[m].repeat_interleave(x.shape[1]) for m, x in steps.items()])
    size = rows.shape[1]
    # Weights may not all be 0; where nobody is here, the rows are.
    weights = here.double().clamp(min=1e-12)
    covariance = rows.T.cov(correction=0, aweights=weights).reshape(size, size)
    spread = 0.1 * covariance.trace() / size + 1e-6  # a little more: all steps may be alike
    whiten = mm.Mahalanobis(0.9 * covariance + spread * torch.eye(size).to(covariance)).whiten

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return mm.euclidean(*(whiten(row.unflatten(-1, (-1, size))).flatten(-2) for row in (x, y)))

    return distance
