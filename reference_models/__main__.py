"""The command line: ``python -m reference_models``."""

import argparse
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from reference_models import commands
from reference_models.commands import CALL
from reference_models.excerpt import printable

# The packages of the extra "reference".
NEEDS = ["accelerate", "filelock", "matplotlib", "safetensors"]
NEEDS += ["scipy", "sklearn", "tokenizers", "tqdm", "transformers"]
MOST_SEEDS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 for a mistake of the caller, with one line that says what to change; 130
        after an interrupt.
    """
    options = _parser().parse_args(arguments)
    try:
        _check_extra()
        options.run(options)
        _leave_ranks()
    except (ValueError, OSError) as error:
        line = printable(" ".join(_with_flags(_message_of(error)).split()), 2000)
        print(f"{CALL}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command with the same --out goes on", file=sys.stderr)
        return 130
    return 0


def _message_of(error: ValueError | OSError) -> str:
    """The error's message; and of the system's own, that a file is where a folder has to be."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename is not None:
        return f"{error.filename}: expected a folder, got a file there or above it; name another"
    return str(error)


def _with_flags(message: str) -> str:
    """A message about an argument of a function, about the flag that it came from."""
    message = re.sub(r"text_encoder='(\w+)'", r"--text-encoder \1", message)
    return re.sub(r"^(text_encoder|modalities|preset|labels):", _flag, message)


def _flag(name: re.Match[str]) -> str:
    return f"--{name[1].replace('_', '-')}:"


def _check_extra() -> None:
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise ValueError(f"needs {', '.join(absent)}: pip install 'mmcontrast[reference]'")


def _leave_ranks() -> None:
    """Wait for all ranks of a launcher, if there is one, and end its process group."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=CALL, description="Reference models of mmcontrast.")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    command = parsers.add_parser("list", help="the models; of one, every key that --set takes")
    command.add_argument("model", nargs="?", metavar="MODEL", help="default: all, a line each")
    command.set_defaults(run=commands.list_command)

    command = parsers.add_parser(
        "demo", help="runs on synthetic data, with contrast and without, and a page"
    )
    command.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="FOLDER", help="default: demo"
    )
    command.add_argument("--seed", type=_seed, default=1, metavar="N", help="the first; default: 1")
    command.add_argument("--fast", action="store_true", help="tiny: only to see that it runs")
    command.set_defaults(run=commands.demo_command)

    command = parsers.add_parser("train", help="train a model on a data file")
    command.add_argument("model", metavar="MODEL", help=f"a name that '{CALL} list' shows")
    command.add_argument("--data", required=True, metavar="FILE", help="see 'data inspect'")
    command.add_argument("--labels", metavar="CSV", help="the sentences of a file of MulT or MMIM")
    command.add_argument(
        "--preset", metavar="NAME", help="the paper's settings for a data set, such as mosi"
    )
    command.add_argument(
        "--text-encoder",
        metavar="NAME|FOLDER|scratch|features",
        help="default: scratch where there are sentences",
    )
    command.add_argument("--out", type=Path, metavar="RUN", help="default: runs/MODEL-seedN-<n>")
    command.add_argument("--seed", type=_seed, default=1, metavar="N", help="default: 1")
    command.add_argument("--epochs", metavar="N", help="short for --set epochs=N")
    command.add_argument("--modalities", metavar="NAME,NAME", help="default: all in the file")
    _add_settings(command)
    _add_log_to(command)
    command.set_defaults(run=commands.train_command)

    command = parsers.add_parser("evaluate", help="the metrics of a finished run")
    command.add_argument("folder", type=Path, metavar="RUN", help="its folder")
    command.add_argument("--data", metavar="FILE", help="default: what it was trained on")
    command.add_argument("--labels", metavar="CSV", help="the sentences of a file of MulT or MMIM")
    command.add_argument(
        "--split", default="test", choices=("train", "valid", "test"), help="default: test"
    )
    _add_missing(command)
    command.set_defaults(run=commands.evaluate_command)

    command = parsers.add_parser("reproduce", help="a table of a model's paper, run again")
    command.add_argument("model", metavar="MODEL", help=f"a name that '{CALL} list' shows")
    command.add_argument(
        "--table", required=True, metavar="NAME", help=f"a table that '{CALL} list MODEL' shows"
    )
    command.add_argument("--data", required=True, metavar="FILE", help="as for train")
    command.add_argument("--labels", metavar="CSV", help="a table of sentences beside the data")
    command.add_argument("--seeds", type=_seeds, required=True, metavar="N", help="runs a row")
    command.add_argument("--seed", type=_seed, default=1111, metavar="N", help="the first one")
    command.add_argument("--rows", metavar="ROW,ROW", help="default: all of the table")
    command.add_argument(
        "--against", metavar="ROW", help="compare with it; default: without contrast, or unchanged"
    )
    command.add_argument("--preset", metavar="NAME", help="or none; default: the data set's")
    command.add_argument(
        "--text-encoder", metavar="NAME|FOLDER|scratch|features", help="as for train"
    )
    command.add_argument("--modalities", metavar="NAME,NAME", help="default: all in the file")
    _add_settings(command)
    command.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: reproduced/MODEL-TABLE"
    )
    _add_missing(command)
    _add_log_to(command)
    command.set_defaults(run=commands.reproduce_command)

    command = parsers.add_parser("report", help="a page about finished runs, with figures")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="or a folder of runs")
    command.add_argument(
        "--out", type=Path, required=True, metavar="PAGE.html", help="the file to write"
    )
    command.add_argument("--figures", type=Path, metavar="FOLDER", help="each as a file, too")
    command.add_argument("--format", default="svg", choices=("svg", "png"), help="of those files")
    command.set_defaults(run=commands.report_command)

    command = parsers.add_parser("compare", help="is the difference between runs more than chance?")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="or a folder of runs")
    command.add_argument("--against", metavar="NAME", help="a folder's; default: the first one's")
    command.add_argument(
        "--out", type=Path, default=Path("compared"), metavar="FOLDER", help="default: compared"
    )
    command.set_defaults(run=commands.compare_command)

    data = parsers.add_parser("data", help="look at data files, or make one")
    parsers = data.add_subparsers(required=True, metavar="COMMAND")
    command = parsers.add_parser("inspect", help="what is in a file")
    command.add_argument("file", metavar="FILE", help="of any known kind; nothing in it is run")
    command.set_defaults(run=commands.inspect_command)
    command = parsers.add_parser("convert", help="write any known file as safetensors")
    command.add_argument("file", metavar="FILE", help="or the folder of UR-FUNNY")
    command.add_argument("out", type=Path, metavar="OUT.safetensors", help="the file to write")
    command.add_argument("--labels", metavar="CSV", help="the sentences of a file of MulT or MMIM")
    command.add_argument("--context", action="store_true", help="UR-FUNNY: not the punchline alone")
    command.add_argument("--normalize", action="store_true", help="UR-FUNNY: each sample's scale")
    command.add_argument("--present-index", type=int, default=1, choices=(0, 1), help="IEMOCAP")
    command.set_defaults(run=commands.convert_command)
    command = parsers.add_parser("synthesize", help="write the synthetic corpus")
    command.add_argument("file", type=Path, metavar="FILE.pkl", help="the file to write")
    sizes = "samples in train, valid and test; default: 400,100,200"
    command.add_argument(
        "--sizes", type=_sizes, default=(400, 100, 200), metavar="N,N,N", help=sizes
    )
    command.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    command.set_defaults(run=commands.synthesize_command)
    return parser


def _add_log_to(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-to",
        metavar="tensorboard|wandb|mlflow",
        help="losses and metrics of each epoch, by the Trainer's own logger",
    )


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help=f"any that '{CALL} list MODEL' shows",
    )


def _add_missing(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--missing",
        metavar="MODE",
        help="curves of the metrics over what is missing: fixed-modalities, random-modalities,"
        " frames, shared-frames or blocks",
    )
    command.add_argument(
        "--mask-seeds", type=_count, metavar="N", help="masks at each rate; default: 3"
    )


def _seed(text: str) -> int:
    if not _is_whole(text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 2^32 - 1, got {text!r}"
        )
    return int(text)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _seeds(text: str) -> int:
    if _count(text) > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_SEEDS}, got {text}")
    return int(text)


def _count(text: str) -> int:
    if not _is_whole(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 3 or not all(map(_is_whole, parts)):
        raise argparse.ArgumentTypeError(
            f"expected train,valid,test like 400,100,200, got {text!r}"
        )
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
