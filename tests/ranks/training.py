"""What test_ranks.py runs on two ranks, by name; results go into a folder."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reference_models.data.batch import Batch
from reference_models.running.trainer import Trainee
from tests.reference_models.batches import batch_of, cast, lacking, samples, without_dropout
from tests.reference_models.running.test_training import Killed, Toy, run
from tests.reference_models.test_models import config_of, network

# The gate draws and mines among a rank's own rows: without it two ranks do what one process does.
ALIKE = {
    "hycon": ("hycon", {}),
    "hycon, N-pair loss": ("hycon", {"supervised_loss": "n_pair"}),
    "hycon-v2": ("hycon-v2", {}),
    "tecafn": ("tecafn", {"gate": ()}),
    "tecafn as printed": ("tecafn", {"gate": (), "denominator": "paper_literal"}),
    "mcl-mcf": ("mcl-mcf", {}),
    "mcl-mcf, design B": ("mcl-mcf", {"pair_design": "B"}),
    "mcl-mcf, design C": ("mcl-mcf", {"pair_design": "C"}),
    "mfon": ("mfon", {}),
}


def trained(label, wrap=lambda module: module, part=slice(None)):
    """A small network's parameters after three steps on parts of the same batches, in float64."""
    name, changes = ALIKE[label]
    model = network(name, config_of(name, **changes)).double().train()
    without_dropout(model)
    trainee = wrap(Trainee(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        batch = cast(batch_of(8, seed=step), torch.float64)
        batch = samples(lacking(batch, audio=[1], vision=[5, 6]), part)
        optimizer.zero_grad()
        output = trainee(**vars(batch))
        output.terms.total.backward()
        optimizer.step()
    return {key: value.detach() for key, value in model.named_parameters()}


def parameters(rank, folder):
    """Each model, of which a rank sees half of each batch."""

    def wrap(module: nn.Module) -> nn.Module:
        return DistributedDataParallel(module, find_unused_parameters=True)

    for label in ALIKE:
        found = trained(label, wrap, slice(4 * rank, 4 * rank + 4))
        if rank == 0:
            save_file(found, folder / f"{label}.safetensors")


class Drawing(Toy):
    """Remembers what it draws in training, and may be killed there."""

    def __init__(self, killed_at=-1):
        super().__init__(dropout=0.5)
        self.drawn = []
        self.killed_at = killed_at

    def forward(self, batch: Batch):
        if self.training:
            self.drawn.append(float(torch.rand(())))
            if len(self.drawn) == self.killed_at:
                raise Killed
        return super().forward(batch)


def draws(rank, folder):
    """What is drawn on each rank, in one run and in one that was killed; the first weights."""
    torch.manual_seed(3)
    whole = Drawing()
    begun = whole.layer.weight.detach().clone()
    run(folder / "whole", whole, epochs=3)
    killed = Drawing(killed_at=5)  # in the second epoch of three steps
    try:
        run(folder / "killed", killed, epochs=3)
    except Killed:
        resumed = Drawing()
        run(folder / "killed", resumed, epochs=3)
    save_file(
        {
            "begun": begun,
            "whole": torch.tensor(whole.drawn, dtype=torch.float64),
            "killed": torch.tensor(killed.drawn[:3] + resumed.drawn, dtype=torch.float64),
        },
        folder / f"draws-{rank}.safetensors",
    )


STILL = ["attention_dropout=0", "relu_dropout=0", "residual_dropout=0", "embed_dropout=0"]
SMALL = {
    "hycon-v2": ["hidden_size=10", "heads=2", "layers=1", *STILL],
    # The gate draws and mines within each rank's rows: without it the two runs are the same.
    "tecafn": ["hidden_size=10", "heads=2", "layers=1", "head_dropout=0", "gate=none", *STILL],
}


def command(model, file, out):
    """Train the model: what stands behind ``python -m reference_models``."""
    settings = ["learning_rate=1e-3", "batch_size=16", "epochs=2", *SMALL[model]]
    # Features, not sentences: the scratch text encoder has a dropout of its own.
    if model == "tecafn":
        settings.append("center=audio")
    rows = ["--data", str(file), "--modalities", "audio,vision"]
    return ["train", model, *rows, "--out", str(out), "--set", *settings]


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))
    for program in sys.argv[2:]:
        globals()[program](dist.get_rank(), Path(sys.argv[1]))
    dist.barrier()
    # What threads of torch are left may abort while the interpreter goes down.
    os._exit(0)
