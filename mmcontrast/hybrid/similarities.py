"""HyCon's losses from the similarities of all pairs."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcontrast.eager import is_eager
from mmcontrast.hybrid.moments import Values, kinds_of, to_values
from mmcontrast.hybrid.pairs import Pairs, Related, modal_pairs
from mmcontrast.hybrid.ratio import share
from mmcontrast.hybrid.selection import PairSelection, hardness_weights, thin
from mmcontrast.hybrid.sums import Sums, over
from mmcontrast.rows import dot

Block = Callable[[slice], dict[str, Values]]
"""The values of some anchors."""


def all_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    related: Related,
    targets: Mapping[str, float],
    *,
    log: bool,
) -> Block:
    """Every pair counts, by its weight if the masks have any."""
    here = torch.stack(list(taking_part.values()))
    x = torch.stack([y * taken[:, None] for y, taken in zip(rows.values(), here, strict=True)])
    here = here.to(x.dtype)

    def block(anchors: slice) -> dict[str, Values]:
        kinds = kinds_of(x, len(x), targets)
        aims = (kinds.partners * kinds.targets[..., None]).sum(0)
        own, there = x[:, anchors], here[:, anchors].mT
        positives, negatives = (mask.to(x.dtype) for mask in related(anchors))
        similarity = dot(own.flatten(0, 1), x.flatten(0, 1)).view(*own.shape[:2], *here.shape)
        pairs = positives[:, None] * here
        errors = ((similarity - aims[:, None, :, None]).square() * pairs).sum(-1).transpose(0, 1)
        # A sum of similarities is the similarity to a sum.
        pulled, pushed = (
            dot(own.transpose(0, 1), torch.stack([dot(mask, y.mT) for y in x], dim=1))
            for mask in (positives, negatives)
        )
        has, lacks = (
            over(dot(mask, here)[:, None] * there[..., None], kinds.partners)
            for mask in (positives, negatives)
        )
        drawn, others, apart = (over(y, kinds.partners) for y in (pulled, pushed, errors))
        values = to_values(Sums(drawn, others, apart, has, lacks), log)
        return {name: Values(*(y[:, k] for y in values)) for k, name in enumerate(targets)}

    return block


def selected_pairs(
    rows: Mapping[str, Tensor],
    taking_part: Mapping[str, Tensor],
    related: Related,
    targets: Mapping[str, float],
    *,
    log: bool,
    selection: PairSelection,
    refine_on: str,
) -> Block:
    """HyCon-v2's pairs, weighted by their hardness."""
    count = selection.count(torch.stack(list(taking_part.values())).any(0).sum())

    def block(anchors: slice) -> dict[str, Values]:
        masks = related(anchors)
        found = {}
        for name, target in targets.items():
            inter = name == "inter"
            columns = [
                _of_modality(
                    pairs,
                    target=target,
                    count=(selection.inter_factor if inter else 1) * count,
                    log=log,
                    selection=selection,
                    refine_on=refine_on,
                )
                for pairs in modal_pairs(
                    rows, taking_part, masks, inter=inter, anchors=anchors
                ).values()
            ]
            found[name] = Values(*(torch.stack(x, dim=1) for x in zip(*columns, strict=True)))
        return found

    return block


def in_blocks(block: Block, rows: Mapping[str, Tensor], own: slice, step: int) -> dict[str, Values]:
    """The values of this rank's anchors, of ``step`` at a time where they are more.

    A block keeps none of its similarities for the backward pass, which makes them again.
    """
    if step >= own.stop - own.start or not is_eager(*rows.values()):
        return block(own)
    cuts = [*range(own.start, own.stop, step), own.stop]
    blocks = [checkpoint(block, slice(*ends), use_reentrant=False) for ends in pairwise(cuts)]
    return {
        name: Values(*map(torch.cat, zip(*(found[name] for found in blocks), strict=True)))
        for name in blocks[0]
    }


def _of_modality(
    pairs: Pairs,
    *,
    target: float,
    count: int | Tensor,
    log: bool,
    selection: PairSelection,
    refine_on: str,
) -> Values:
    """One modality's anchors, (B,) each."""
    anchors, candidates, positives, negatives, _ = pairs
    similarity = dot(anchors, candidates)
    chosen, rejected = thin(similarity, positives, negatives, selection, count)
    pull, push = _selection_weights(similarity, chosen, rejected, selection)
    ratio, contrasted = share(similarity, pull, push, log=log)
    refined = positives if refine_on == "all" else chosen
    value = similarity * pull if refine_on == "weighted" else similarity
    number = refined.sum(-1)
    errors = ((value - target).square() * refined).sum(-1)
    return Values(ratio, contrasted, errors / torch.where(number > 0, number, 1), number > 0)


def _selection_weights(
    similarity: Tensor, positives: Tensor, negatives: Tensor, selection: PairSelection
) -> tuple[Tensor, Tensor]:
    """Hardness weights on the selected sides; on the others those of a mean or a sum."""
    weights = hardness_weights(similarity, positives, negatives, gamma=selection.gamma)

    def plain(mask: Tensor) -> Tensor:
        ones = mask.to(similarity.dtype)
        number = mask.sum(-1, keepdim=True).clamp_min(1)
        return ones / number if selection.unselected == "mean" else ones

    return (
        weights[0] if selection.positives else plain(positives),
        weights[1] if selection.negatives else plain(negatives),
    )
