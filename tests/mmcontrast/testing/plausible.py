"""Wrong losses as people write them, and what each is meant to be: called without a declared form.

Unlike the broken losses of the package, which say what they claim, these are tried as the guide
shows first: by their kind alone.
"""

import torch
import torch.nn.functional as F


def logits_of(x, y, temperature=0.1):
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature


def own(n):
    return torch.arange(n)


def margin_after_the_temperature(x, y):
    logits = logits_of(x, y) - 0.2 * torch.eye(len(x), dtype=x.dtype)
    return F.cross_entropy(logits, own(len(x)))


def one_direction_forgotten(x, y):
    return F.cross_entropy(logits_of(x, y), own(len(x)))


def wrong_direction(x, y):
    return F.cross_entropy(logits_of(x, y).T, own(len(x)))


def directions_summed(x, y):
    logits = logits_of(x, y)
    return F.cross_entropy(logits, own(len(x))) + F.cross_entropy(logits.T, own(len(x)))


def temperature_multiplied(x, y):
    return F.cross_entropy(logits_of(x, y, 10.0), own(len(x)))


def positives_twice(x, y):
    logits = logits_of(x, y)
    return F.cross_entropy(torch.cat([logits, logits.diagonal()[:, None]], 1), own(len(x)))


def positive_left_out(x, y):
    logits = logits_of(x, y)
    if len(x) == 1:
        return 0 * logits.sum()
    rest = logits.masked_fill(torch.eye(len(x)).bool(), -torch.inf)
    return (rest.logsumexp(1) - logits.diagonal()).mean()


def epsilon_in_the_log(x, y):
    return -(logits_of(x, y).softmax(1).diagonal() + 1e-6).log().mean()


def no_maximum_subtracted(x, y):
    shares = logits_of(x, y, 0.01).exp()
    return -(shares.diagonal() / shares.sum(1)).log().mean()


def candidates_detached(x, y):
    return F.cross_entropy(logits_of(x, y.detach()), own(len(x)))


def denominator_without_gradient(x, y):
    logits = logits_of(x, y)
    return (logits.logsumexp(1).detach() - logits.diagonal()).mean()


def normalised_in_place(x, y):
    with torch.no_grad():
        x /= x.norm(dim=1, keepdim=True)
    return F.cross_entropy(logits_of(x, y), own(len(x)))


def smoothed_twice(x, y):
    return F.cross_entropy(logits_of(x, y), own(len(x)), label_smoothing=0.2)


def scaled_by_the_batch(x, y):
    return len(x) * F.cross_entropy(logits_of(x, y), own(len(x)))


def summed(x, y):
    return F.cross_entropy(logits_of(x, y), own(len(x)), reduction="sum")


def divided_by_all_pairs(x, y):
    return F.cross_entropy(logits_of(x, y), own(len(x)), reduction="sum") / len(x) ** 2


def by_the_square_root_of_the_width(x, y):
    logits = logits_of(x, y) / x.shape[1] ** 0.5
    return F.cross_entropy(logits, own(len(x)))


def only_anchors_normalised(x, y):
    return F.cross_entropy(F.normalize(x, dim=1) @ y.T / 0.1, own(len(x)))


def _labelled(z, labels, *, candidates, positives, counted):
    logits = logits_of(z, z).masked_fill(~candidates, -1e30)
    shares = logits - logits.logsumexp(1, keepdim=True)
    number = positives.sum(1)
    each = -(shares * positives).sum(1) / number.clamp_min(1)
    return each.sum() / counted(number).clamp_min(1)


def _others(z):
    return ~torch.eye(len(z)).bool()


def _some(number):
    return (number > 0).sum()


def self_mask_forgotten(z, labels):
    same = (labels[:, None] == labels) & _others(z)
    everybody = torch.ones_like(same)
    return _labelled(z, labels, candidates=everybody, positives=same, counted=_some)


def mean_over_everybody(z, labels):
    same = (labels[:, None] == labels) & _others(z)
    return _labelled(
        z,
        labels,
        candidates=_others(z),
        positives=same,
        counted=lambda number: torch.tensor(len(number)),
    )


def mean_over_pairs(z, labels):
    """Anchors with many positives weigh more."""
    same = (labels[:, None] == labels) & _others(z)
    logits = logits_of(z, z).masked_fill(~_others(z), -1e30)
    shares = logits - logits.logsumexp(1, keepdim=True)
    return -(shares * same).sum() / same.sum().clamp_min(1)


def own_class_out_of_the_denominator(z, labels):
    same = (labels[:, None] == labels) & _others(z)
    logits = logits_of(z, z)
    rest = logits.masked_fill(labels[:, None] == labels, -1e30).logsumexp(1, keepdim=True)
    each = (F.softplus(rest - logits) * same).sum(1) / same.sum(1).clamp_min(1)
    return each.sum() / _some(same.sum(1)).clamp_min(1)


ONE_WAY = {"form": "info_nce", "temperature": 0.1}
BOTH = {**ONE_WAY, "symmetric": True}
BY_LABEL = {"kind": "labelled", "form": "sup_con", "temperature": 0.1}

MEANT = {
    margin_after_the_temperature: (ONE_WAY, "lowered by 0.2: a margin of 0.2 after"),
    one_direction_forgotten: (BOTH, "form='info_nce', temperature=0.1"),
    wrong_direction: (ONE_WAY, "the rows of b are the anchors"),
    directions_summed: (BOTH, "it is multiplied by 2"),
    temperature_multiplied: (ONE_WAY, "is 0.1 meant to divide them?"),
    positives_twice: (ONE_WAY, "the positive is in the denominator 2 times"),
    positive_left_out: (ONE_WAY, "the positive is missing from the denominator"),
    epsilon_in_the_log: (ONE_WAY, "1e-06 is added to the share inside the logarithm"),
    no_maximum_subtracted: (ONE_WAY, "temperature=0.01"),
    candidates_detached: (ONE_WAY, "form='info_nce', temperature=0.1"),
    denominator_without_gradient: (ONE_WAY, "form='info_nce', temperature=0.1"),
    normalised_in_place: (ONE_WAY, "form='info_nce', temperature=0.1"),
    smoothed_twice: (ONE_WAY, "the targets are smoothed by 0.2"),
    scaled_by_the_batch: (ONE_WAY, "it is summed over the samples, not averaged"),
    summed: (ONE_WAY, "it is summed over the samples, not averaged"),
    divided_by_all_pairs: (ONE_WAY, "it is multiplied by N ** -1"),
    by_the_square_root_of_the_width: (ONE_WAY, "similarities are divided by D ** 0.5"),
    only_anchors_normalised: (ONE_WAY, "only a is normalised"),
    self_mask_forgotten: (BY_LABEL, "the sample itself is among its candidates"),
    mean_over_everybody: (BY_LABEL, "anchors without a positive count in the mean"),
    mean_over_pairs: (BY_LABEL, "it is the mean over the pairs"),
    own_class_out_of_the_denominator: (BY_LABEL, "The loss does not equal it"),
}
"""What each is meant to be, and words of what ``infer=True`` says of it."""
