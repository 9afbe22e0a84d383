"""Other libraries' losses under the suite: which laws fail for each, as Markdown.

``PYTHONPATH=.venv/peers python -m tests.mmcontrast.testing.peers_table`` prints the table. The
examples are the same every time. Each loss is called as its own documentation calls it: open_clip's
takes rows that the caller has normalised, so the caller here does that. float16, empty batches and
compilers are claimed for all of them, to see who keeps what nobody promised.
"""

import argparse
import importlib
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from mmcontrast.testing import CheckReport, Traits
from mmcontrast.testing.suite import report_on


def module(name):
    """A peer's module, with its import's warnings out of the way; ModuleNotFoundError without it.

    torchvision's operators are not registered beside a CPU build of torch, and nothing here needs
    them: an empty module stands in for the one that would look for them.
    """
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("_meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


# --- the peers, by temperature --------------------------------------------------------------------


def pml_nt_xent(temperature):
    loss = module("pytorch_metric_learning.losses").NTXentLoss(temperature=temperature)

    def call(a, b):
        ids = torch.arange(len(a))
        return loss(a, ids, ref_emb=b, ref_labels=ids.clone())

    return call


def pml_sup_con(temperature):
    return module("pytorch_metric_learning.losses").SupConLoss(temperature=temperature)


def pml_memory(temperature):
    """A queue that the loss fills itself, for rows of three features."""
    losses = module("pytorch_metric_learning.losses")
    loss = losses.NTXentLoss(temperature=temperature)
    return losses.CrossBatchMemory(loss, embedding_size=3, memory_size=16)


def pml_triplet(margin):
    loss = module("pytorch_metric_learning.losses").TripletMarginLoss(margin=margin)

    def call(a, p, n):
        ids = torch.arange(len(a))
        rows = torch.cat([a, p, n])
        labels = torch.cat([ids, ids, ids + len(a)])
        return loss(rows, labels, (ids, ids + len(a), ids + 2 * len(a)))

    return call


def lightly_nt_xent(temperature):
    return module("lightly.loss").NTXentLoss(temperature=temperature)


def open_clip_clip(temperature):
    loss = module("open_clip.loss").ClipLoss()
    return lambda a, b: loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1), 1 / temperature)


def open_clip_sig_lip(temperature):
    loss = module("open_clip.loss").SigLipLoss()
    return lambda a, b: loss(
        F.normalize(a, dim=-1), F.normalize(b, dim=-1), 1 / temperature, logit_bias=-10.0
    )


def sentence_transformers_ranking(temperature):
    losses = module("sentence_transformers.losses")
    loss = losses.MultipleNegativesRankingLoss(torch.nn.Identity(), scale=1 / temperature)
    return lambda a, b: loss.compute_loss_from_embeddings([a, b], None)


def info_nce_pytorch(temperature):
    return module("info_nce").InfoNCE(temperature=temperature)


def sup_contrast(temperature):
    """SupContrast publishes no package: its formula, with the maximum over the anchor's own too."""

    def call(z, labels):
        z = F.normalize(z, dim=1)
        others = 1 - torch.eye(len(z), dtype=z.dtype)
        positives = (labels[:, None] == labels).to(z.dtype) * others
        logits = z @ z.T / temperature
        logits = logits - logits.max(dim=1, keepdim=True).values.detach()
        shares = logits - (logits.exp() * others).sum(1, keepdim=True).log()
        number = positives.sum(1)
        return -((positives * shares).sum(1) / torch.where(number < 1e-6, 1, number)).mean()

    return call


# --- what they claim, and what comes of it --------------------------------------------------------


@dataclass(frozen=True)
class Peer:
    make: Callable[[float], Any]
    traits: Traits
    temperature: float = 0.07

    def report(self, name: str, *, temperature: float | None = None, **options: Any) -> CheckReport:
        """The suite on this loss at a temperature, its own where none is given."""
        at = self.temperature if temperature is None else temperature
        stated = replace(self.traits, factory=self.make)
        if self.traits.kind != "triplet":
            stated = replace(stated, temperature=at)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return report_on(self.make(at), stated, name=name, **options)


ENGINEERING = {
    "traceable": True,
    "functional": True,
    "empty": "either",
    "dtypes": dict.fromkeys((torch.float32, torch.bfloat16, torch.float16)),
}
INFO_NCE = Traits(form="info_nce", **ENGINEERING)
SYMMETRIC = Traits(form="info_nce", symmetric=True, **ENGINEERING)
SUP_CON = Traits(kind="labelled", form="sup_con", **ENGINEERING)

PEERS = {
    "pytorch-metric-learning NTXentLoss": Peer(pml_nt_xent, INFO_NCE),
    "pytorch-metric-learning SupConLoss": Peer(pml_sup_con, SUP_CON),
    "pytorch-metric-learning CrossBatchMemory": Peer(
        pml_memory,
        Traits(kind="labelled", features=3, deterministic=False, needs_positive=False),
    ),
    "pytorch-metric-learning TripletMarginLoss": Peer(
        pml_triplet, Traits(kind="triplet", **ENGINEERING), 0.2
    ),
    "lightly NTXentLoss": Peer(
        lightly_nt_xent, Traits(form="nt_xent", symmetric=True, **ENGINEERING)
    ),
    "open_clip ClipLoss": Peer(open_clip_clip, SYMMETRIC),
    "open_clip SigLipLoss": Peer(open_clip_sig_lip, Traits(symmetric=True, **ENGINEERING)),
    "sentence-transformers MultipleNegativesRankingLoss": Peer(
        sentence_transformers_ranking, INFO_NCE
    ),
    "info-nce-pytorch InfoNCE": Peer(info_nce_pytorch, INFO_NCE),
    "SupContrast's formula": Peer(sup_contrast, SUP_CON),
}


def line(report: CheckReport) -> str:
    """A row of the table."""
    held = len(report.named("passed"))
    failed = [f"`{r.name}` ({short(r.message)})" for r in report.results if r.status == "failed"]
    return f"| {report.loss} | {held} of {len(report.results)} | {'; '.join(failed) or 'none'} |"


def short(message: str, most: int = 90) -> str:
    """A message that fits into a cell."""
    message = " ".join(message.replace("|", "\\|").split())
    return message if len(message) <= most else message[: most - 3] + "..."


def table(examples: int, names: list[str] | None = None) -> str:
    """Markdown, one row a loss; a peer that is not installed says so."""
    lines = ["| loss | laws that hold | laws that fail |", "|---|---|---|"]
    for name, peer in PEERS.items():
        if names and not any(part in name for part in names):
            continue
        try:
            lines.append(line(peer.report(name, max_examples=examples)))
        except ModuleNotFoundError as error:
            lines.append(f"| {name} | | not installed: {error.name} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("names", nargs="*", help="parts of the names of some losses")
    options = parser.parse_args()
    sys.stdout.write(table(options.examples, options.names))


if __name__ == "__main__":
    main()
