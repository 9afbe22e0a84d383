"""Data files, read without executing them; batches; the synthetic corpus."""

from reference_models.data.batch import Batch, ModalDataset, Standardizer, collate
from reference_models.data.converted import save_corpus
from reference_models.data.corpus import Corpus, Split
from reference_models.data.inspection import FileReport, format_report, inspect_file
from reference_models.data.loading import LAYOUTS, load_corpus
from reference_models.data.mmsa import load_mmsa
from reference_models.data.pickles import DataError, load_pickle
from reference_models.data.synthetic import synthesize
from reference_models.data.text import (
    choose_text,
    encode_texts,
    stored_token_ids,
    train_word_tokenizer,
)

__all__ = [
    "LAYOUTS",
    "Batch",
    "Corpus",
    "DataError",
    "FileReport",
    "ModalDataset",
    "Split",
    "Standardizer",
    "choose_text",
    "collate",
    "encode_texts",
    "format_report",
    "inspect_file",
    "load_corpus",
    "load_mmsa",
    "load_pickle",
    "save_corpus",
    "stored_token_ids",
    "synthesize",
    "train_word_tokenizer",
]
