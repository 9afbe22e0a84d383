"""LossTerms in other people's hands: what rebuilds outputs keeps terms, weights and total."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch.distributed.utils import _apply_to_tensors
from torch.utils import _pytree as pytree
from torch.utils.data import default_collate, default_convert

import mmcontrast as mm
from tests.mmcontrast.peers import peer
from tests.mmcontrast.strategies import close
from tests.ranks import launch

pytestmark = pytest.mark.filterwarnings("ignore")
WEIGHTS = {"task": 1.0, "semi": 0.3, "off": 0.0, "inter": -1.7}


def terms(*shape, seed=3, dtype=torch.float32):
    """Four terms; the weight of the first is left out, and that of the NaN is 0."""
    source = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(shape, generator=source).to(dtype) for name in WEIGHTS}
    values["off"] = torch.full(shape, math.nan, dtype=dtype)
    return mm.LossTerms(values, {name: WEIGHTS[name] for name in ("semi", "off", "inter")})


def check(found, expected):
    """The terms expected, by name and in order; our weights; the total by a loop in float64."""
    assert type(found) is mm.LossTerms
    assert list(found) == list(WEIGHTS)
    assert found.weights == WEIGHTS
    for name, term in expected.items():
        rebuilt = torch.as_tensor(found[name])
        torch.testing.assert_close(rebuilt, term, atol=0, rtol=0, equal_nan=True)
    total = sum(WEIGHTS[k] * expected[k].double() for k in WEIGHTS if WEIGHTS[k] != 0)
    close(found.total, total, atol=1e-6, rtol=1e-6)


def item_by_item(given):
    """How torch.distributed rebuilds an OrderedDict."""
    found = type(given)()
    for name, term in given.items():
        found[name] = term
    return found


def saved(given, **settings):
    file = io.BytesIO()
    torch.save({"logged": given}, file)
    file.seek(0)
    return torch.load(file, **settings)["logged"]


def respecified(given):
    """Through a tree's structure as text, as in exported programs."""
    structure = pytree.treespec_loads(pytree.treespec_dumps(pytree.tree_structure(given)))
    return pytree.tree_unflatten(given.values(), structure)


def theirs(library, name, *arguments, **settings):
    """A peer's function of the terms."""
    return lambda given: getattr(peer(library), name)(given, *arguments, **settings)


ACCELERATE, TRANSFORMERS = "accelerate.utils", "transformers.trainer_pt_utils"
APPLY, DEVICES = "lightning_utilities.core.apply_func", "lightning.fabric.utilities"
SAME = {
    "from a dict": lambda t: type(t)({name: t[name] for name in t}),
    "from pairs": lambda t: type(t)((name, term) for name, term in t.items()),
    "from names and values": lambda t: type(t)(zip(t.keys(), t.values(), strict=True)),
    "through a dict": lambda t: mm.LossTerms(dict(t)),
    "unpacked": lambda t: mm.LossTerms({**t}),
    "item by item": item_by_item,
    "its own copy": lambda t: t.copy(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "pickle of a dict": lambda t: mm.LossTerms(pickle.loads(pickle.dumps(dict(t)))),
    "deepcopy of a dict": lambda t: mm.LossTerms(copy.deepcopy(dict(t))),
    "torch.save": lambda t: saved(t, weights_only=False),
    "torch.save, weights_only": lambda t: saved(t, weights_only=True),
    "tree_map": lambda t: pytree.tree_map(torch.clone, t),
    "tree_map_with_path": lambda t: pytree.tree_map_with_path(lambda path, x: x.clone(), t),
    "tree_flatten": lambda t: pytree.tree_unflatten(*pytree.tree_flatten(t)),
    "treespec_dumps": respecified,
    "default_convert": default_convert,
    "torch.distributed": lambda t: _apply_to_tensors(torch.clone, t),
    "send_to_device": theirs(ACCELERATE, "send_to_device", "cpu"),
    "gather": theirs(ACCELERATE, "gather"),
    "pad_across_processes": theirs(ACCELERATE, "pad_across_processes"),
    "broadcast": theirs(ACCELERATE, "broadcast"),
    "reduce": theirs(ACCELERATE, "reduce"),
    "recursively_apply": lambda t: peer(ACCELERATE).recursively_apply(torch.clone, t),
    "nested_detach": theirs(TRANSFORMERS, "nested_detach"),
    "nested_numpify": theirs(TRANSFORMERS, "nested_numpify"),
    "apply_to_collection": theirs(APPLY, "apply_to_collection", torch.Tensor, torch.clone),
    "move_data_to_device": theirs(DEVICES, "move_data_to_device", torch.device("cpu")),
    "recursive_detach": theirs("lightning.pytorch.utilities.memory", "recursive_detach"),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_what_rebuilds_them_keeps_all(name, shape):
    given = terms(*shape)
    check(SAME[name](given), given)
    check(given, given)  # as before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_casts_the_terms_alone(dtype):
    """Accelerate's wrapper of a forward pass, and what Lightning and torch cast outputs with."""
    given = terms(dtype=dtype)
    expected = {name: term.float() for name, term in given.items()}
    wrapped = peer(ACCELERATE).convert_outputs_to_fp32(lambda: {"loss": given})
    check(wrapped()["loss"], expected)
    check(peer(APPLY).apply_to_collection(given, torch.Tensor, torch.Tensor.float), expected)
    check(_apply_to_tensors(torch.Tensor.float, given), expected)


TWO = {
    "default_collate": (default_collate, torch.stack),
    "nested_concat": (lambda pair: peer(TRANSFORMERS).nested_concat(*pair), torch.cat),
    "concatenate": (lambda pair: peer(ACCELERATE).concatenate(pair), torch.cat),
}


@pytest.mark.parametrize("name", TWO)
def test_two_become_one(name):
    join, expected = TWO[name]
    pair = [terms(2, seed=seed) for seed in (1, 2)]
    check(join(pair), {key: expected([x[key] for x in pair]) for key in WEIGHTS})


def test_gradients_pass_through_every_container_that_keeps_the_graph():
    """The total of what was rebuilt trains what the terms were computed from."""
    graph = {*SAME} - {"deepcopy", "deepcopy of a dict", "nested_detach", "nested_numpify"}
    graph -= {name for name in SAME if name.startswith(("pickle", "torch.save"))}
    graph -= {"recursive_detach"}
    for name in graph:
        x = torch.tensor([0.5, 2.0], requires_grad=True)
        given = mm.LossTerms({"a": x.sin(), "b": x**2}, {"b": 0.25})
        SAME[name](given).total.sum().backward()
        close(x.grad, (x.cos() + 0.5 * x).detach())


def test_names_are_str_that_know_their_weights():
    given = terms()
    assert {name: name.weight for name in given} == WEIGHTS
    assert mm.LossTerms(dict(given), {"semi": 9}).weights == {**WEIGHTS, "semi": 9}
    assert mm.LossTerms({str(name): term for name, term in given.items()}).weights["semi"] == 1
    given.weights["semi"] = 0.7
    assert mm.LossTerms(dict(given)).weights["semi"] == 0.7


def test_a_lightning_trainer_hands_them_on(tmp_path):
    """In automatic and in manual optimisation, to the hook at the end of a batch."""
    library = peer("lightning.pytorch")

    class Model(library.LightningModule):
        def __init__(self, automatic):
            super().__init__()
            self.automatic_optimization = automatic
            self.layer = torch.nn.Linear(2, 2)
            self.seen = []

        def training_step(self, batch, batch_idx):
            value = self.layer(batch).float().square().sum()
            made = mm.LossTerms({"a": value, "b": 3 * value}, {"b": 0.25})
            if not self.automatic_optimization:
                self.manual_backward(made.total)
                return made
            return {"loss": made.total, "made": made}

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.seen.append(outputs["made"] if self.automatic_optimization else outputs)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    for automatic in (True, False):
        model = Model(automatic)
        trainer = library.Trainer(
            max_epochs=1,
            accelerator="cpu",
            precision="bf16-mixed",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, torch.utils.data.DataLoader(torch.ones(2, 2), batch_size=1))
        for found in model.seen:
            assert found.weights == {"a": 1, "b": 0.25}
            close(found.total, 1.75 * found["a"], rtol=1e-5)


def test_the_trainers_evaluation_returns_them(tmp_path):
    """What a model returns beside its loss comes back from predict(), over all batches."""
    library = peer("transformers")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x, labels):
            value = self.layer(x).square().sum(1)
            made = mm.LossTerms({"a": value, "b": 3 * value}, {"b": 0.25})
            return {"loss": made.total.mean(), "made": made}

    settings = library.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to=[], per_device_eval_batch_size=2
    )
    data = [{"x": torch.randn(2), "labels": torch.tensor(0)} for _ in range(5)]
    found = library.Trainer(Model(), settings).predict(data)
    made = found.predictions
    assert made.weights == {"a": 1, "b": 0.25}
    assert made["a"].shape == (5,)
    close(made.total, torch.as_tensor(1.75 * made["a"]), rtol=1e-5)
    assert found.metrics["test_loss"] > 0


@pytest.mark.slow
def test_wrapped_models_train_as_one_process_does():
    """DistributedDataParallel in each of its ways, and FSDP2 at the root."""
    launch(2, "tests.ranks.containers", "ddp", "fsdp")
