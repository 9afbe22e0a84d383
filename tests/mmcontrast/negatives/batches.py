"""Batches of modalities with parts missing, and how negatives of them must look."""

import torch
from hypothesis import strategies as st

from mmcontrast import Negatives
from tests import oracles
from tests.mmcontrast.strategies import mask, normal, rng, seeds

ALPHA = 1e-6
VOCABULARY = 1000


@st.composite
def batches(draw, most=5, ids=None):
    """(features, present, masks, lengths): text of any kind, frames, vectors; anything where void.

    No two samples share a value, so that it can be told whose a value is.
    """
    seed, n = draw(seeds), draw(st.integers(1, most))
    ids = draw(st.booleans()) if ids is None else ids
    steps = {name: draw(st.integers(1, 5)) for name in ("text", "audio", "vision")}
    features = {name: normal(seed + k, n, t, 2) for k, (name, t) in enumerate(steps.items())}
    if ids:
        order = torch.randperm(VOCABULARY - 2, generator=rng(seed))[: n * steps["text"]] + 2
        features["text"] = order.reshape(n, -1)
    features["speaker"] = normal(seed + 9, n, 3)
    present, masks, lengths = {}, {}, {}
    for name in features:
        if draw(st.booleans()):
            present[name] = mask(seed + len(name), n, share=0.7)
    for name, t in steps.items():
        length = torch.randint(0, t + 1, (n,), generator=rng(seed + t))
        kinds = ["none", "lengths", "masks", "both", "front", "front and lengths", "holes"]
        kind = draw(st.sampled_from(kinds))
        places = torch.arange(t).expand(n, t)
        if kind in ("lengths", "both"):
            lengths[name] = length
        if kind in ("masks", "both"):
            masks[name] = places < length[:, None]
        if kind.startswith("front"):
            masks[name] = places >= length[:, None]
        if kind == "front and lengths":
            lengths[name] = t - length
        if kind == "holes":
            masks[name] = mask(seed + t, n, t)
    void = draw(st.sampled_from([None, 50.0, torch.nan]))
    for name, x in features.items():
        if x.is_floating_point() and void is not None:
            frames = real(features, present, masks, lengths)[name]
            x[~(frames if x.ndim == 3 else frames[:, 0])] = void
    return features, present, masks, lengths


def options(batch):
    return dict(zip(("present", "masks", "lengths"), batch[1:], strict=True))


def real(features, present, masks, lengths):
    """Modality -> (B, T) bool; a vector is one frame."""
    found = {}
    for name, x in features.items():
        shape = x.shape[:1] if x.is_floating_point() and x.ndim == 2 else x.shape[:2]
        marks = oracles.real_frames(shape, present.get(name), masks.get(name), lengths.get(name))
        found[name] = torch.tensor(marks).reshape(len(x), -1)
    return found


def has(batch):
    return {name: marks.any(1).tolist() for name, marks in real(*batch).items()}


def full(n, seed=0, t=4):
    """Three modalities of frames, nothing missing."""
    return {name: normal(seed + k, n, t, 2) for k, name in enumerate(("text", "audio", "vision"))}


def bits(x):
    """Values to compare exactly, NaN with NaN."""
    return x.nan_to_num(nan=1e30).tolist() if x.is_floating_point() else x.tolist()


def sample(batch, name, i):
    """What belongs to one modality of one sample: features, mask, length."""
    features, masks, lengths = batch
    return [bits(m[name][i]) for m in (features, masks, lengths) if name in m]


def samples(negatives, name, i):
    return sample((negatives.features, negatives.masks, negatives.lengths), name, i)


def originals(batch, name, i):
    return sample((batch[0], batch[2], batch[3]), name, i)


def check_form(negatives, batch):
    """Keys, shapes and dtypes as they came; what is not altered is the same to the last bit."""
    features, _, masks, lengths = batch
    assert isinstance(negatives, Negatives)
    for found, given_ in zip(
        (negatives.features, negatives.masks, negatives.lengths),
        (features, masks, lengths),
        strict=True,
    ):
        assert list(found) == list(given_)
        for name, x in found.items():
            assert (x.shape, x.dtype) == (given_[name].shape, given_[name].dtype)
    assert list(negatives.altered) == list(features)
    for name, altered in negatives.altered.items():
        assert altered.dtype == torch.bool
        for i, flag in enumerate(altered.tolist()):
            assert flag or samples(negatives, name, i) == originals(batch, name, i)
