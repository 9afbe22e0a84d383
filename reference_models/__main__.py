"""The command line: ``python -m reference_models``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

CALL = "python -m reference_models"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 where the caller has to change something, with one line that says what;
        130 after an interrupt.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        print(f"{CALL}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command with the same --out goes on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=CALL, description="Reference models of mmcontrast.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the models, their papers and their keys")
    command.set_defaults(run=_list)

    command = commands.add_parser("demo", help="two small runs on synthetic data, and a page")
    command.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER")
    command.add_argument("--seed", type=_seed, default=1, metavar="N")
    command.add_argument("--fast", action="store_true", help="tiny: only to see that it runs")
    command.set_defaults(run=_demo)

    command = commands.add_parser("train", help="train a model on a data file")
    command.add_argument("model", metavar="MODEL", help=f"a name that '{CALL} list' shows")
    command.add_argument("--data", required=True, metavar="FILE", help="a pickle, MMSA layout")
    command.add_argument(
        "--text-encoder",
        metavar="NAME|FOLDER|scratch|features",
        help="default: scratch where there are sentences",
    )
    command.add_argument("--out", type=Path, metavar="RUN", help="default: runs/MODEL-seedN-<n>")
    command.add_argument("--seed", type=_seed, default=1, metavar="N")
    command.add_argument("--epochs", metavar="N", help="short for --set epochs=N")
    command.add_argument("--modalities", metavar="NAME,NAME", help="default: all in the file")
    command.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", dest="settings"
    )
    command.set_defaults(run=_train)

    command = commands.add_parser("evaluate", help="the metrics of a finished run")
    command.add_argument("folder", type=Path, metavar="RUN")
    command.add_argument("--data", metavar="FILE", help="default: what it was trained on")
    command.add_argument("--split", default="test", choices=("train", "valid", "test"))
    command.set_defaults(run=_evaluate)

    data = commands.add_parser("data", help="look at data files, or make one")
    commands = data.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("inspect", help="what is in a file")
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=_inspect)
    command = commands.add_parser("synthesize", help="write the synthetic corpus")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--sizes", type=_sizes, default=(400, 100, 200), metavar="N,N,N")
    command.add_argument("--seed", type=_seed, default=0, metavar="N")
    command.set_defaults(run=_synthesize)
    return parser


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2^32 - 1, got {text!r}"
        )
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(
            f"expected train,valid,test like 400,100,200, got {text!r}"
        )
    return tuple(int(part) for part in parts)


# Every command imports what it needs: the help and the small ones answer at once.


def _list(options: argparse.Namespace) -> None:
    from reference_models.registry import MODELS

    for name, entry in MODELS.items():
        print(f"{name}: {entry.summary}\n  paper: {entry.paper}")
        for title, config in (("model", entry.config), ("training", entry.training)):
            print(f"  {title} keys for --set:")
            for field in fields(config):
                print(f"    {field.name}={_word(getattr(config, field.name))}")
        print()


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _demo(options: argparse.Namespace) -> None:
    from reference_models.demo import demo

    page = demo(options.out, seed=options.seed, fast=options.fast, say=print)
    print(f"\npage: {page}")


def _train(options: argparse.Namespace) -> None:
    from transformers.utils.logging import disable_progress_bar

    from reference_models import folders, registry, runs
    from reference_models.data.mmsa import load_mmsa
    from reference_models.parts import build, describe
    from reference_models.report import text_table

    disable_progress_bar()  # of loading a text encoder; the training has its own
    entry = registry.find(options.model)
    epochs = [] if options.epochs is None else [f"epochs={options.epochs}"]
    model_config, training = registry.configure(entry, [*options.settings, *epochs])
    if options.out is not None:
        folders.check_free(options.out)
    corpus = load_mmsa(options.data)
    parts = build(
        options.model,
        model_config,
        training,
        corpus,
        seed=options.seed,
        text_encoder=options.text_encoder,
        modalities=None if options.modalities is None else options.modalities.split(","),
    )
    out = options.out or folders.new_folder(Path("runs"), options.model, options.seed)
    print(describe(parts, out), flush=True)
    results = runs.train(parts, corpus, out)
    print(f"\nepoch {results['best_epoch']} of {results['epochs']}: {results['selection']}")
    print(text_table({split: results[split] for split in ("valid", "test")}))


def _evaluate(options: argparse.Namespace) -> None:
    from reference_models import runs
    from reference_models.report import text_table

    metrics = runs.evaluate(options.folder, data=options.data, split=options.split)
    rows = {options.split: metrics, f"{options.split}, MAG-BERT protocol": metrics["mag_bert"]}
    print(text_table(rows))


def _inspect(options: argparse.Namespace) -> None:
    from reference_models.data.inspection import format_report, inspect_file

    print(format_report(inspect_file(options.file)))


def _synthesize(options: argparse.Namespace) -> None:
    from reference_models.data.synthetic import synthesize

    if options.file.exists():
        raise ValueError(f"{options.file}: expected a new file, got one that exists; name another")
    synthesize(options.file, sizes=options.sizes, seed=options.seed)
    print(f"wrote {options.file}; look at it with: {CALL} data inspect {options.file}")


if __name__ == "__main__":
    sys.exit(main())
