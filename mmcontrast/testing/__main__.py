"""The suite as a command: ``python -m mmcontrast.testing my_package.losses:MyLoss --symmetric``."""

import argparse
import ast
import difflib
import functools
import importlib
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from mmcontrast.testing import broken
from mmcontrast.testing.registry import CHECKS
from mmcontrast.testing.snippet import describe
from mmcontrast.testing.subject import one_line
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import ALL_KINDS, FORMS, Loss, Traits, as_traits
from mmcontrast.testing.vary import Vary

OK, BROKEN, USAGE = 0, 1, 2
CHOICES = {"kind": ALL_KINDS, "form": FORMS, "empty": ("zero", "raise", "either")}
LOADED = ("reference", "pairwise", "distance")
BY_CALL = ("factory", "reductions", "chunked", *LOADED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all laws hold, 1 if one is broken, 2 and a line for a wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.broken:
        _write(broken.markdown_table())
        return OK
    try:
        if options.list:
            _write(_list(options))
            return OK
        if options.loss is None:
            parser.error("a loss is missing: package.module:name")
        loss = load(options.loss, options.set)
        report = report_on(
            loss,
            _traits(options),
            checks=options.checks,
            exclude=options.exclude or (),
            expected_failures={
                _law(name): reason for name, reason in map(_name_and_value, options.expect or ())
            },
            max_examples=options.examples,
            seed=options.seed,
            infer=options.infer,
            name=options.loss,
        )
    except (ValueError, TypeError, argparse.ArgumentTypeError, CannotLoad) as error:
        parser.error(str(error))
    if options.json:
        _write(report.to_json() + "\n")
    elif options.markdown:
        _write(report.to_markdown())
    elif options.html:
        _write(report.to_html())
    else:
        _write(f"{report}\n")
    return OK if report.ok else BROKEN


class CannotLoad(Exception):
    """A loss that cannot be imported or made; the message says why, in one line."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest flag where one was mistyped."""

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        if text.startswith("unrecognized arguments:"):
            flags = [flag for action in self._actions for flag in action.option_strings]
            text += _nearest(text.split()[2].partition("=")[0], flags)
        self.exit(USAGE, f"{self.prog}: {text} (--help lists all)\n")


def _nearest(word: str, choices: Iterable[str]) -> str:
    found = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _law(word: str) -> str:
    """A type for argparse: the name of a law. All of them are too many for one line."""
    if word not in CHECKS:
        raise argparse.ArgumentTypeError(
            f"there is no law {word!r}{_nearest(word, CHECKS)} (--list names them)"
        )
    return word


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """A type for argparse: one of the words, or an error with the nearest of them."""

    def check(word: str) -> str:
        if word not in choices:
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(choices)}, got {word!r}{_nearest(word, choices)}"
            )
        return word

    return check


def load(name: str, settings: Sequence[str] | None = None) -> Loss:
    """The loss that ``package.module:name`` names; a class is made with the settings.

    Raises:
        ValueError: on a name of another form.
        CannotLoad: on a name that does not exist, or a module or class that raises.
    """
    found = _named(name)
    given = _named_values(settings)
    if isinstance(found, type) and issubclass(found, nn.Module):
        try:
            made: Loss = found(**given)
        except Exception as error:  # of the class's own code
            raise CannotLoad(f"loss: making {name!r}, {one_line(error)}") from error
        return made
    if not callable(found):
        raise ValueError(f"loss: expected something to call, got {name!r}, a {describe(found)}")
    return functools.partial(found, **given) if given else found


def _named(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute or "/" in module or module.endswith(".py"):
        raise ValueError(f"loss: expected package.module:name, got {name!r}{_of_file(name)}")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # of the module's own code
        raise CannotLoad(f"loss: importing {module!r}, {_where(error)}{one_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = _nearest(part, [n for n in dir(found) if not n.startswith("_")])
            raise CannotLoad(f"loss: {module!r} has no {attribute!r}{near}")
        found = getattr(found, part)
    return found


def _of_file(name: str) -> str:
    """The name of a module whose file was given."""
    path, _, attribute = name.partition(":")
    if not path.endswith(".py"):
        return ""
    parts = [part for part in Path(path).with_suffix("").parts if part not in ("/", ".", "..")]
    return f"; a file is named as a module: {'.'.join(parts)}:{attribute or 'NAME'}"


def _where(error: BaseException) -> str:
    """The file and line of a syntax error."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} of {error.filename}: "
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mmcontrast.testing",
        description="Check a contrastive loss, a miner or a distance against the laws it claims.",
    )
    parser.add_argument("loss", nargs="?", help="package.module:name of a function or a class")
    parser.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="an argument of the class or function"
    )
    parser.add_argument("--examples", type=int, default=100, help="of each law (100)")
    parser.add_argument("--seed", type=int, help="of the examples; the same ones without it")
    parser.add_argument("--checks", nargs="+", metavar="LAW", type=_law, help="these laws only")
    parser.add_argument("--exclude", nargs="+", metavar="LAW", type=_law, help="all laws but these")
    parser.add_argument(
        "--expect", action="append", metavar="LAW=REASON", help="a law that is known to be broken"
    )
    parser.add_argument(
        "--infer", action="store_true", help="propose the nearest known form and its temperature"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the report as JSON")
    output.add_argument("--markdown", action="store_true", help="the report as Markdown")
    output.add_argument("--html", action="store_true", help="the report as a page: --html > a.html")
    output.add_argument("--list", action="store_true", help="the laws, and exit")
    output.add_argument("--broken", action="store_true", help="a table of wrong losses, and exit")
    claims = parser.add_argument_group("what the loss claims (see mmcontrast.testing.Traits)")
    for name, kind in typing.get_type_hints(Traits).items():
        _add_trait(claims, name, kind)
    claims.add_argument(
        "--collapse-log-n", action="store_true", help="the loss of N equal rows is log N"
    )
    claims.add_argument(
        "--by-temperature",
        metavar="NAME",
        help="the argument of the class or function that is its temperature (triplet: margin; "
        "miners: how many negatives)",
    )
    claims.add_argument(
        "--by-reduction", metavar="NAME", help="the argument that takes mean, sum and none"
    )
    claims.add_argument("--by-chunk", metavar="NAME", help="the argument that takes a chunk's size")
    claims.add_argument(
        "--dtypes", nargs="+", metavar="DTYPE", help="float32 and bfloat16 without it; float16"
    )
    claims.add_argument("--reference", metavar="LOSS", help="package.module:name of a slow one")
    claims.add_argument(
        "--pairwise", metavar="LOSS", help="that of what it is of two modalities (multimodal)"
    )
    claims.add_argument(
        "--distance", metavar="DISTANCE", help="package.module:name of what is hard (miners)"
    )
    return parser


def _add_trait(claims: Any, name: str, kind: Any) -> None:
    """Add the flag of a trait, if a command line can express it."""
    flag = f"--{name.replace('_', '-')}"
    if name in CHOICES:
        words = CHOICES[name]
        claims.add_argument(flag, type=_one_of(words), metavar="{" + ",".join(words) + "}")
    elif kind is bool:
        claims.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
    elif name == "bounds":
        claims.add_argument(flag, nargs=2, type=float, metavar=("LOW", "HIGH"))
    elif name == "differentiable":
        claims.add_argument(flag, nargs="+", metavar="INPUT")
    elif name == "hardest":
        claims.add_argument(flag, nargs="*", metavar="SIDE")
    elif kind is float or (isinstance(kind, types.UnionType) and float in typing.get_args(kind)):
        claims.add_argument(flag, type=float)
    elif kind is int or (isinstance(kind, types.UnionType) and int in typing.get_args(kind)):
        claims.add_argument(flag, type=int)


def _traits(options: argparse.Namespace) -> Traits:
    stated: dict[str, Any] = {}
    for f in fields(Traits):
        value = getattr(options, f.name, None)
        if f.name not in BY_CALL and f.name != "dtypes" and value is not None:
            stated[f.name] = tuple(value) if isinstance(value, list) else value
    if options.collapse_log_n:
        stated["collapse_value"] = math.log
    if options.dtypes is not None:
        stated["dtypes"] = {_dtype(name): None for name in options.dtypes}
    for name in LOADED:
        if getattr(options, name) is not None:
            stated[name] = load(getattr(options, name))
    ways = {
        "factory": options.by_temperature,
        "reductions": options.by_reduction,
        "chunked": options.by_chunk,
    }
    for trait, argument in ways.items():
        if argument is not None and options.loss is not None:
            stated[trait] = Vary(_named(options.loss), argument, _named_values(options.set))
    return as_traits(stated)


def _list(options: argparse.Namespace) -> str:
    traits = _traits(options)
    lines = []
    for check in CHECKS.values():
        if options.kind is not None and traits.kind not in check.kinds:
            continue
        needs = f" [{check.needs}]" if check.needs else ""
        number = f" (law {check.number})" if check.number else ""
        lines.append(f"{check.name}{number}: {check.law}{needs}")
    return "\n".join(lines) + "\n"


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _named_values(settings: Sequence[str] | None) -> dict[str, Any]:
    """The arguments in ``NAME=VALUE`` texts."""
    return {name: _value(text) for name, text in map(_name_and_value, settings or ())}


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtypes: expected a floating dtype of torch, got {name!r}")
    return found


def _value(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write(text: str) -> None:
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
