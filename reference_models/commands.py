"""The commands of ``python -m reference_models``: what each does with its options, and prints.

Imports are inside the commands, so that ``--help`` and the small commands start quickly.
"""

import argparse
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from reference_models.excerpt import printable

if TYPE_CHECKING:
    from reference_models.paper import Paper

CALL = "python -m reference_models"


def shown(text: str) -> str:
    """A text in which all but printable characters and line breaks are written as escapes.

    Names of files, modalities and samples come from elsewhere: an escape sequence in one could
    clear the screen or rewrite what was said, and half a character cannot be printed at all.

    >>> shown("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "\n".join(printable(line, len(line)) for line in text.split("\n"))


def _say(text: str) -> None:
    print(shown(text), flush=True)


def list_command(options: argparse.Namespace) -> None:
    """The models, a line each; or one model, with every key that ``--set`` takes."""
    from reference_models import registry

    if options.model is not None:
        _describe(registry.find(options.model))
        return
    width = max(map(len, registry.MODELS))
    for name, paper in registry.MODELS.items():
        print(f"{name:<{width}}  {paper.summary}")
    print(f"\n{CALL} list MODEL: its paper, presets, tables, and every key of --set")


def _describe(paper: "Paper") -> None:
    from reference_models.keys import changes_in_words, explained, spell

    print(f"{paper.name}: {paper.summary}\npaper: {paper.citation}")
    print("presets:" if paper.presets else "presets: none")
    for name, changes in paper.presets.items():
        _entry(name, changes_in_words(changes))
    print("tables, and what each row changes:")
    for name, rows in paper.tables.items():
        changed = (f"{row} ({changes_in_words(own)})" if own else row for row, own in rows.items())
        _entry(name, ", ".join(changed))
    for title, config in (("model", paper.config), ("training", paper.training)):
        print(f"\n{title} keys for --set:")
        words = explained(type(config))
        for field in fields(config):
            print(f"  {field.name}={spell(getattr(config, field.name))}")
            if field.name in words:  # a model from outside may explain none
                print(textwrap.indent(textwrap.fill(words[field.name], 84), "      "))


def _entry(name: str, words: str) -> None:
    print(textwrap.fill(f"{name}: {words}", 90, initial_indent="  ", subsequent_indent="      "))


def demo_command(options: argparse.Namespace) -> None:
    """Small runs on synthetic data, with contrast and without, and their page."""
    from reference_models import demo as runner

    page = runner.demo(options.out, seed=options.seed, fast=options.fast, say=_say)
    _say(f"\npage: {page}")


def train_command(options: argparse.Namespace) -> None:
    """Train into a run folder, and print the metrics; on several ranks the first one prints."""
    from accelerate.utils import broadcast_object_list
    from transformers.utils.logging import disable_progress_bar

    from reference_models import keys, registry
    from reference_models.data.loading import load_corpus
    from reference_models.running import folders, runs
    from reference_models.running.description import describe
    from reference_models.running.devices import ranks
    from reference_models.running.loggers import check_logger
    from reference_models.running.parts import build
    from reference_models.tables.statistics import text_table

    disable_progress_bar()  # of loading a text encoder; the training has its own bar
    check_logger(options.log_to)
    epochs = [] if options.epochs is None else [f"epochs={options.epochs}"]
    settings = [*options.settings, *epochs]
    model_config, training = keys.configure(
        registry.find(options.model), settings, preset=options.preset
    )
    # Under torchrun and accelerate launch all ranks run this; the first one writes and prints.
    first = ranks().is_main_process
    if first and options.out is not None:
        folders.check_free(options.out)
    corpus = load_corpus(options.data, labels=options.labels)
    parts = build(
        options.model,
        model_config,
        training,
        corpus,
        seed=options.seed,
        text_encoder=options.text_encoder,
        modalities=None if options.modalities is None else options.modalities.split(","),
        labels=options.labels,
    )
    out = options.out
    if out is None:
        named = [folders.new_folder(Path("runs"), options.model, options.seed) if first else None]
        out = broadcast_object_list(named)[0]
    if first:
        _say(describe(parts, out))
    results = runs.train(parts, corpus, out, log_to=options.log_to)
    if not first:
        return
    print(f"\nepoch {results['best_epoch']} of {results['epochs']}: {results['selection']}")
    _say(text_table({split: results[split] for split in ("valid", "test")}))


def evaluate_command(options: argparse.Namespace) -> None:
    """The metrics of a finished run; of several ranks the first one is enough."""
    from reference_models.running import runs
    from reference_models.running.devices import ranks
    from reference_models.tables.statistics import text_table

    if not ranks().is_main_process:
        return
    mask_seeds = _mask_seeds(options)
    if options.missing is not None:
        from reference_models.tables.missing_tables import evaluate_run

        page = evaluate_run(
            options.folder,
            options.missing,
            data=options.data,
            labels=options.labels,
            split=options.split,
            mask_seeds=mask_seeds,
            say=_say,
        )
        _say(f"{page.with_suffix('.md').read_text(encoding='utf-8')}\npage: {page}")
        return
    metrics = runs.evaluate(
        options.folder, data=options.data, labels=options.labels, split=options.split
    )
    rows = {options.split: metrics}
    if "mag_bert" in metrics:
        rows[f"{options.split}, MAG-BERT protocol"] = metrics["mag_bert"]
    _say(text_table(rows))


def _mask_seeds(options: argparse.Namespace) -> int:
    """How many masks at each rate of ``--missing``."""
    from reference_models.running.robustness import MASK_SEEDS

    if options.mask_seeds is None:
        return MASK_SEEDS
    if options.missing is None:
        raise ValueError(
            f"--mask-seeds: expected --missing MODE beside it, got {options.mask_seeds} alone"
        )
    return int(options.mask_seeds)


def reproduce_command(options: argparse.Namespace) -> None:
    """A table of a paper, run again; it prints what it writes."""
    from transformers.utils.logging import disable_progress_bar

    from reference_models.running.loggers import check_logger
    from reference_models.tables import experiments

    disable_progress_bar()  # of loading a text encoder; the training has its own bar
    check_logger(options.log_to)
    if options.seed + options.seeds > 2**32:
        raise ValueError(f"--seed: expected {options.seeds} seeds below 2^32, got {options.seed}")
    experiments.reproduce(
        options.model,
        options.table,
        data=options.data,
        labels=options.labels,
        seeds=range(options.seed, options.seed + options.seeds),
        rows=None if options.rows is None else options.rows.split(","),
        text_encoder=options.text_encoder,
        modalities=None if options.modalities is None else options.modalities.split(","),
        settings=options.settings,
        preset=options.preset,
        against=options.against,
        missing=options.missing,
        log_to=options.log_to,
        mask_seeds=_mask_seeds(options),
        out=options.out or Path("reproduced") / f"{options.model}-{options.table}",
        say=_say,
    )


def report_command(options: argparse.Namespace) -> None:
    """A page about finished runs."""
    from reference_models.tables.report import report, save_figures

    groups = report(options.runs, options.out)
    for group in groups:
        _say(f"{group.name}: {len(group.folders)} finished")
    if options.figures is not None:
        written = save_figures(groups, options.figures, options.format)
        _say(f"figures: {len(written)} in {options.figures}")
    _say(f"page: {options.out}")


def compare_command(options: argparse.Namespace) -> None:
    """Finished runs compared sample by sample; it prints what it writes."""
    from reference_models.tables.compared import compare

    compare(options.runs, options.out, against=options.against)
    text = (options.out / "compared.md").read_text(encoding="utf-8")
    _say(f"{text}\npage: {options.out / 'index.html'}")


def inspect_command(options: argparse.Namespace) -> None:
    """What is in a data file, and an error in the end where it cannot be loaded."""
    from reference_models.data.inspection import format_report, inspect_file

    report = inspect_file(options.file)
    print(format_report(report))
    if report.problem is not None:
        raise ValueError(f"{options.file}: expected a file that loads; the problem is named above")


def convert_command(options: argparse.Namespace) -> None:
    """Convert a data file of any known layout to safetensors."""
    from reference_models.data.converted import save_corpus
    from reference_models.data.loading import load_corpus

    if options.out.exists():
        raise ValueError(f"{options.out}: expected a new file, got one that exists; name another")
    corpus = load_corpus(
        options.file,
        labels=options.labels,
        context=options.context,
        normalize=options.normalize,
        present_index=options.present_index,
    )
    save_corpus(corpus, options.out)
    for note in corpus.notes:
        _say(f"note: {note}")
    samples = ", ".join(f"{len(part)} {name}" for name, part in corpus.splits.items())
    _say(f"wrote {options.out} ({samples}); look at it with: {CALL} data inspect {options.out}")


def synthesize_command(options: argparse.Namespace) -> None:
    """A file of the synthetic corpus."""
    from reference_models.data.synthetic import synthesize

    if options.file.exists():
        raise ValueError(f"{options.file}: expected a new file, got one that exists; name another")
    synthesize(options.file, sizes=options.sizes, seed=options.seed)
    print(f"wrote {options.file}; look at it with: {CALL} data inspect {options.file}")
