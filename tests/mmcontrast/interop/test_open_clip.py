"""mmcontrast.interop.open_clip against open_clip itself; on several ranks: test_ranks.py."""

import inspect
import json

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.interop import open_clip as ours
from tests.mmcontrast.peers import peer, same_value_and_gradient
from tests.mmcontrast.strategies import close, normal

pytestmark = pytest.mark.filterwarnings("ignore")

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 6, "vocab_size": 20, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def features(generator):
    """Unit rows of 7 images and their texts, a scale and a bias."""
    images, texts = (
        F.normalize(torch.randn(7, 5, dtype=torch.float64, generator=generator), dim=-1)
        for _ in range(2)
    )
    number = {"dtype": torch.float64}
    return images, texts, torch.tensor(14.0, **number), torch.tensor(-3.0, **number)


def test_clip_loss_is_open_clips(features):
    theirs = peer("open_clip.loss").ClipLoss()
    images, texts, scale, bias = features
    same_value_and_gradient(ours.ClipLoss(), theirs, images, texts, scale)
    same_value_and_gradient(ours.ClipLoss(), theirs, images, texts, scale, bias)
    same_value_and_gradient(ours.ClipLoss(), theirs, images, texts, scale.reshape(1))
    named = ours.ClipLoss()(images, texts, logit_scale=14.0, output_dict=True)
    assert list(named) == list(theirs(images, texts, 14.0, output_dict=True))
    torch.testing.assert_close(named["contrastive_loss"], theirs(images, texts, 14.0))


@pytest.mark.parametrize("dist_impl", [None, "gather"])
def test_sig_lip_loss_is_open_clips(features, dist_impl):
    theirs = peer("open_clip.loss").SigLipLoss(dist_impl=dist_impl)
    images, texts, scale, bias = features
    loss = ours.SigLipLoss(dist_impl=dist_impl)
    same_value_and_gradient(loss, theirs, *features)
    same_value_and_gradient(
        lambda *x: loss(*x, None), lambda *x: theirs(*x, None), images, texts, scale
    )
    same_value_and_gradient(loss, theirs, images, texts, scale.reshape(1), bias.reshape(1))
    named = loss(*features, output_dict=True)
    assert list(named) == list(theirs(*features, output_dict=True))
    torch.testing.assert_close(named["contrastive_loss"], theirs(*features))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_sig_lip_loss_in_chunks_is_the_same(features, chunk_size):
    """Against its formula, sum of -log sigmoid over all pairs, divided by the images."""

    def formula(images, texts, scale, bias):
        sign = 2 * torch.eye(len(images), dtype=images.dtype) - 1
        return -F.logsigmoid(sign * (scale * images @ texts.T + bias)).sum() / len(images)

    loss = ours.SigLipLoss(False, 0, 1, None, chunk_size)
    assert loss.chunk_size == chunk_size
    same_value_and_gradient(loss, formula, *features)


@pytest.mark.parametrize("chunk_size", [0, 5])
def test_chunk_size_is_the_side_of_the_tiles(features, chunk_size, monkeypatch):
    monkeypatch.setattr(ours, "sigmoid_contrast", lambda *_, **named: named["chunk_size"])
    assert ours.SigLipLoss(chunk_size=chunk_size)(*features) == (chunk_size or None)


@pytest.mark.parametrize("chunk_size", [-1, 2.5, None])
def test_chunk_size_is_a_count(chunk_size):
    with pytest.raises(ValueError, match="chunk_size: expected an int of at least 1"):
        ours.SigLipLoss(chunk_size=chunk_size)


def test_they_take_the_arguments_that_open_clip_gives_them():
    """The signatures are the same, names, order and defaults, of both calls."""
    library = peer("open_clip.loss")

    def arguments(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    for name in ("ClipLoss", "SigLipLoss"):
        mine, theirs = getattr(ours, name), getattr(library, name)
        found, expected = arguments(mine.__init__), arguments(theirs.__init__)
        assert found[: len(expected)] == expected
        # What its main branch has and its release has not.
        assert found[len(expected) :] in ([], [("chunk_size", 0)])
        assert arguments(mine.forward) == arguments(theirs.forward)


def test_in_float16_the_loss_stays_where_float64_is(features):
    images, texts, _, _ = (x.half() for x in features)
    exact = ours.ClipLoss()(images.double(), texts.double(), 100.0)
    torch.testing.assert_close(ours.ClipLoss()(images, texts, 100.0), exact.float())


@pytest.mark.parametrize("loss", [ours.ClipLoss(), ours.SigLipLoss()])
def test_a_scale_in_bfloat16_is_its_own_value(loss):
    """Its reciprocal too: 1 / 99 in bfloat16 is 0.3 % off."""
    x, y = (F.normalize(normal(k, 5, 4).float(), dim=1) for k in range(2))
    scale, bias = torch.tensor(99.0), torch.tensor(-9.5)
    close(loss(x, y, scale.bfloat16(), bias.bfloat16()), loss(x, y, scale, bias), rtol=1e-7)


def test_nobody_is_a_zero_with_a_graph():
    nobody = torch.zeros(0, 3, requires_grad=True)
    for loss in (ours.ClipLoss(), ours.SigLipLoss()):
        value = loss(nobody, nobody, 10.0, torch.tensor(-1.0))
        assert value == 0
        assert value.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ours.ClipLoss(use_horovod=True), "use_horovod: expected False"),
        (lambda x: ours.SigLipLoss(dist_impl="ring"), "dist_impl: expected one of None, 'bidir'"),
        (
            lambda x: ours.ClipLoss(world_size=2)(x, x, 1.0),
            "world_size: expected the default process group's, None, got 2",
        ),
        (lambda x: ours.SigLipLoss(world_size=2)(x, x, 1.0, 0.0), "world_size: expected"),
        (
            lambda x: ours.ClipLoss()(x, x, torch.ones(2)),
            r"logit_scale: expected a number or a floating tensor of shape \(\) or \(1,\)",
        ),
        (lambda x: ours.SigLipLoss()(x, x, 1.0, torch.ones(1, 1)), "logit_bias: expected a number"),
        (lambda x: ours.ClipLoss()(x, x[:1], 1.0), r"y: expected shape \(2, 2\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.eye(2))


@pytest.fixture
def tiny(tmp_path):
    """Its own model, made from a configuration file."""
    library = peer("open_clip")
    (tmp_path / "tiny-test.json").write_text(json.dumps(TINY))
    library.add_model_config(tmp_path)
    return library


@pytest.mark.parametrize("kind", ["ClipLoss", "SigLipLoss"])
def test_its_model_trains_with_ours_as_with_its_own(tiny, kind, generator):
    """The loop of its training script; step by step the same losses, which fall."""
    images = torch.randn(8, 3, 16, 16, generator=generator)
    texts = torch.randint(1, 19, (8, 6), generator=generator)
    texts[:, -1] = 19  # the end of text, the largest token
    settings = {"init_logit_bias": -10.0} if kind == "SigLipLoss" else {}
    curves = []
    for loss in (getattr(ours, kind)(), getattr(tiny.loss, kind)()):
        torch.manual_seed(0)
        model = tiny.create_model("tiny-test", output_dict=True, **settings)
        optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
        curve = []
        for _ in range(12):
            optimizer.zero_grad()
            losses = loss(**model(images, texts), output_dict=True)
            total = sum(losses.values())
            total.backward()
            optimizer.step()
            curve.append(total.item())
        curves.append(torch.tensor(curve))
    torch.testing.assert_close(curves[0], curves[1], rtol=2e-4, atol=2e-4)
    assert curves[0][-1] < 0.7 * curves[0][0]
