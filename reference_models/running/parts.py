"""The parts of a run: the network for a data file, tokenizer, and scale of the features."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from reference_models import keys, registry
from reference_models.data.batch import Batch, ModalDataset, Standardizer, collate
from reference_models.data.corpus import Corpus
from reference_models.data.text import (
    choose_text,
    encode_texts,
    stored_token_ids,
    train_word_tokenizer,
)
from reference_models.layers.inputs import COUNTS
from reference_models.layers.text_encoder import (
    load_text_encoder,
    load_tokenizer,
    scratch_text_encoder,
)
from reference_models.paper import Paper
from reference_models.running.devices import device
from reference_models.running.masking import batch_change
from reference_models.training_config import TrainingConfig

PACKAGES = ("mmcontrast", "transformers", "accelerate", "numpy", "scikit-learn")
BERT_VOCABULARY = 30_522  # of the token ids in the column text_bert, in most files


@dataclass(frozen=True)
class Parts:
    """The parts of a run, in memory; ``config`` is the content of ``config.json``."""

    config: dict[str, Any]
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase | None
    text_encoder: PreTrainedModel | None
    standardizer: Standardizer | None

    @property
    def training(self) -> TrainingConfig:
        """How it is trained."""
        return keys.rebuild(TrainingConfig, self.config["training"])

    def dataset(self, corpus: Corpus, split: str) -> ModalDataset:
        """A split of a corpus, as the input of this network.

        Raises:
            ValueError: the corpus lacks a modality or a text column that the network reads.
        """
        modalities, text = self.config["modalities"], self.config["text"]
        missing = [name for name in modalities if name not in corpus.modalities]
        if missing:
            raise ValueError(
                f"{corpus.path}: expected the modalities {', '.join(modalities)} of this network,"
                f" got {', '.join(corpus.modalities)}"
            )
        part = corpus.splits[split]
        ids = None
        if text["column"] == "raw_text":
            if part.raw_text is None:
                raise ValueError(f"{corpus.path}: expected the column raw_text, got none")
            ids = encode_texts(part.raw_text, self.tokenizer, self.training.max_text_length)
        elif text["column"] == "text_bert":
            ids = [row[: self.training.max_text_length] for row in stored_token_ids(part)]
            highest = int(part.token_ids.max())
            if highest >= self.text_encoder.config.vocab_size:
                raise ValueError(
                    f"text_encoder: expected more than {highest} words, for the token ids in"
                    f" {corpus.path}, got {self.text_encoder.config.vocab_size}; take the encoder"
                    " whose vocabulary they are of"
                )
        return ModalDataset(part, modalities, token_ids=ids, standardizer=self.standardizer)


def build(
    model: str,
    model_config: Any,
    training: TrainingConfig,
    corpus: Corpus,
    *,
    seed: int,
    text_encoder: str | None = None,
    modalities: Sequence[str] | None = None,
    chosen_by: str = "--modalities",
    labels: str | None = None,
) -> Parts:
    """The network for a corpus, with random weights from the seed, and the other parts of a run.

    Args:
        model: its name in the registry.
        model_config, training: the two configs.
        corpus: what it is to be trained on.
        seed: of the initial weights.
        text_encoder: a name on the hub, a folder, "scratch", or "features" for the precomputed
            text column; None: "scratch" where there are sentences, else what there is.
        modalities: which ones; None: all that the file has and the model reads.
        chosen_by: who chose the modalities, as error messages name it.
        labels: the table of sentences that the corpus was read with; stored in the config.

    Raises:
        ValueError: modalities, text or text encoder that are not there, or too few of them; a share
            of missing things that cannot be.
    """
    paper = registry.find(model)
    used, left_out = _modalities(paper, corpus, modalities, chosen_by)
    model_config = _with_head(model_config, corpus)
    if training.precision == "fp16" and device().type == "cpu":
        raise ValueError("precision: expected float32 or bf16 on a cpu, got 'fp16'")
    if text_encoder is not None and "text" not in used:
        raise ValueError(
            f"text_encoder: expected none, as text takes no part, got {text_encoder!r}"
        )
    if text_encoder == "":  # an unset variable of a shell
        raise ValueError("text_encoder: expected a name, a folder, scratch or features, got ''")
    set_seed(seed)
    column = choose_text(corpus, text_encoder) if "text" in used else None
    tokenizer = encoder = name = None
    if column in ("raw_text", "text_bert"):
        name = text_encoder or "scratch"
        tokenizer, encoder = _text_parts(name, column, corpus, training.max_text_length)
    train = corpus.splits["train"]
    sizes = {
        m: encoder.config.hidden_size
        if m == "text" and encoder is not None
        else train.features[m].shape[2]
        for m in used
    }
    config = {
        "format": 1,
        "model": model,
        "seed": seed,
        "data": {
            "path": corpus.path,
            "labels": labels,
            "sha256": corpus.sha256,
            "known_as": corpus.known_as,
            "task": corpus.task,
            "samples": {split: len(part) for split, part in corpus.splits.items()},
        },
        "modalities": list(used),
        "sizes": sizes,
        "left_out": left_out,
        "text": {"column": column, "encoder": name},
        "model_config": asdict(model_config),
        "training": asdict(training),
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in PACKAGES},
            "torch": str(torch.__version__),  # with its build, which its metadata may leave out
        },
    }
    parts = Parts(
        # Through JSON, as it will be read from the run folder: tuples become lists.
        json.loads(json.dumps(config)),
        paper.build(model_config, sizes, encoder),
        tokenizer,
        encoder,
        Standardizer.fit(train) if training.standardize else None,
    )
    batch_change(parts)  # refuses what cannot be taken out of the batches
    with torch.no_grad():  # a forward pass that fails does so before there is a run folder
        parts.model.eval()(Batch(**collate([parts.dataset(corpus, "valid")[0]])))
    return parts


def _modalities(
    paper: Paper, corpus: Corpus, wanted: Sequence[str] | None, chosen_by: str
) -> tuple[tuple[str, ...], list[str]]:
    """The modalities in use, in order, and a sentence on each of the others."""
    for name in wanted or ():
        if name not in corpus.modalities:
            raise ValueError(
                f"modalities: expected some of {', '.join(corpus.modalities)}, which"
                f" {corpus.path} has, got {name!r} from {chosen_by}"
            )
        if name not in paper.reads:
            raise ValueError(
                f"modalities: expected some of {', '.join(paper.reads)}, which {paper.name} reads,"
                f" got {name!r} from {chosen_by}"
            )
    used = tuple(m for m in paper.reads if m in (wanted or corpus.modalities))
    if len(used) < paper.fewest:
        source = f"{chosen_by} asks for" if wanted else f"{corpus.path} has"
        raise ValueError(
            f"modalities: expected {COUNTS[paper.fewest]} or more for {paper.name}, got"
            f" {', '.join(used) or 'none'} ({source} no more)"
        )
    why = {m: "left out" if m in corpus.modalities else "not in the file" for m in paper.reads}
    return used, [
        f"{m} is {why[m]}: the loss terms leave out it and every pair with it"
        for m in paper.reads
        if m not in used
    ] + [f"{m} is not read by {paper.name}" for m in corpus.modalities if m not in paper.reads]


# The heads for each task; the first one replaces "regression", the default of every config.
HEADS_OF_TASK = {
    "sentiment": ("regression", "classes7"),
    "sims": ("regression",),
    "iemocap": ("iemocap",),
    "humor": ("humor",),
}


def _with_head(model_config: Any, corpus: Corpus) -> Any:
    """The config with a head for the labels of the corpus."""
    heads = HEADS_OF_TASK[corpus.task]
    if model_config.head in heads:
        return model_config
    if model_config.head == "regression":
        return replace(model_config, head=heads[0])
    raise ValueError(
        f"head: expected {' or '.join(heads)} for the labels of {corpus.path} (task {corpus.task}),"
        f" got {model_config.head!r}"
    )


def _text_parts(
    name: str, column: str, corpus: Corpus, max_length: int
) -> tuple[PreTrainedTokenizerBase | None, PreTrainedModel]:
    train, tokenizer = corpus.splits["train"], None
    if name == "scratch":
        if column == "raw_text":
            tokenizer = train_word_tokenizer(train.raw_text)
            size = len(tokenizer)
        else:
            highest = max(int(part.token_ids.max()) for part in corpus.splits.values())
            size = max(BERT_VOCABULARY, highest + 1)
        return tokenizer, scratch_text_encoder(size, max_length=max_length)
    encoder = load_text_encoder(name)
    if column == "raw_text":
        tokenizer = load_tokenizer(name)
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ValueError(
            f"max_text_length: expected at most {positions}, all that {name!r} can read, got"
            f" {max_length}"
        )
    return tokenizer, encoder
