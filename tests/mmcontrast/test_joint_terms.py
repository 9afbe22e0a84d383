"""Who is compared with whom, where modalities are missing or rows are shuffled."""

import torch

import mmcontrast as mm
from mmcontrast.joint_terms import gathered, shuffled_orders
from tests.mmcontrast.strategies import close, modalities, normal, rng


def test_rows_are_gathered_in_one_dtype_and_presence_where_it_is_given():
    rows = {"text": normal(1, 4, 3), "audio": normal(2, 4, 3).float()}
    samples = gathered(rows, None, None, products=True)
    assert {x.dtype for x in samples.rows.values()} == {torch.float64}
    assert (samples.present, samples.everywhere, samples.own) == (None, {}, slice(0, 4))
    assert gathered(rows, None, None, products=False).every == {}


def test_orders_are_drawn_one_modality_after_the_other():
    like, source = torch.ones(1), rng(3)
    found = shuffled_orders(["audio", "vision"], 5, like, None, rng(3))
    expected = [torch.randperm(5, generator=source) for _ in range(2)]
    assert list(found) == ["audio", "vision"]
    for order, other in zip(found.values(), expected, strict=True):
        assert torch.equal(order, other)


def test_each_sample_is_compared_on_the_modalities_that_it_has():
    """One that lacks vision meets text and audio alone, of all who have audio."""
    features = modalities(1, 5, 4)
    vision = torch.tensor([True, True, False, True, True])
    for given in ({"negatives": "all"}, {"score": "volume"}, {"score": "area"}):
        found = mm.joint_contrast(features, present={"vision": vision}, reduction="none", **given)
        pairs = {name: features[name] for name in ("text", "audio")}
        alone = mm.joint_contrast(pairs, reduction="none", **given)
        close(found["text"][2], alone["text"][2])
        if given != {"negatives": "all"}:
            continue
        whole = {name: x[vision] for name, x in features.items()}
        others = mm.joint_contrast(whole, reduction="none", **given)
        # The sample without vision is a candidate for its text and audio with others' vision.
        assert (found["text"][vision] > others["text"]).all()
        assert (found["vision"][vision] > others["vision"]).all()
        assert found["vision"][2] == 0
