"""The suite as a command: ``python -m mmcontrast.testing my_package.losses:MyLoss --symmetric``."""

import argparse
import ast
import functools
import importlib
import math
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from mmcontrast.testing import broken
from mmcontrast.testing.registry import CHECKS
from mmcontrast.testing.snippet import describe
from mmcontrast.testing.suite import report_on
from mmcontrast.testing.traits import FORMS, KINDS, Loss, Traits
from mmcontrast.testing.vary import Vary

OK, BROKEN, USAGE = 0, 1, 2
CHOICES = {"kind": KINDS, "form": FORMS, "empty": ("zero", "raise", "either")}
BY_CALL = ("factory", "reductions", "chunked", "reference")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if all laws hold, 1 if one is broken, 2 for a wrong call."""
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
            _traits(options, loss),
            checks=options.checks,
            exclude=options.exclude or (),
            expected_failures=dict(_name_and_value(text) for text in options.expect or ()),
            max_examples=options.examples,
            seed=options.seed,
            name=options.loss,
        )
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        parser.error(str(error))
    if options.json:
        _write(report.to_json() + "\n")
    elif options.markdown:
        _write(report.to_markdown())
    else:
        _write(f"{report}\n")
    return OK if report.ok else BROKEN


def load(name: str, settings: Sequence[str] | None = None) -> Loss:
    """The loss that ``package.module:name`` names; a class is made with the settings.

    Raises:
        ValueError: on a name of another form.
        ImportError, AttributeError: on a name that does not exist.
    """
    found = _named(name)
    given = _named_values(settings)
    if isinstance(found, type) and issubclass(found, nn.Module):
        made: Loss = found(**given)
        return made
    if not callable(found):
        raise ValueError(f"loss: expected something to call, got {name!r}, a {describe(found)}")
    return functools.partial(found, **given) if given else found


def _named(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ValueError(f"loss: expected package.module:name, got {name!r}")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmcontrast.testing",
        description="Check a contrastive loss against the laws that it claims.",
    )
    parser.add_argument("loss", nargs="?", help="package.module:name of a function or a class")
    parser.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="an argument of the class or function"
    )
    parser.add_argument("--examples", type=int, default=100, help="of each law (100)")
    parser.add_argument("--seed", type=int, help="of the examples; the same ones without it")
    parser.add_argument("--checks", nargs="+", metavar="LAW", help="these laws only")
    parser.add_argument("--exclude", nargs="+", metavar="LAW", help="all laws but these")
    parser.add_argument(
        "--expect", action="append", metavar="LAW=REASON", help="a law that is known to be broken"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="the report as JSON")
    output.add_argument("--markdown", action="store_true", help="the report as Markdown")
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
        help="the argument of the class or function that is its temperature (triplet: margin)",
    )
    claims.add_argument(
        "--by-reduction", metavar="NAME", help="the argument that takes mean, sum and none"
    )
    claims.add_argument("--by-chunk", metavar="NAME", help="the argument that takes a chunk's size")
    claims.add_argument(
        "--dtypes", nargs="+", metavar="DTYPE", help="float32 and bfloat16 without it; float16"
    )
    claims.add_argument("--reference", metavar="LOSS", help="package.module:name of a slow one")
    return parser


def _add_trait(claims: Any, name: str, kind: Any) -> None:
    """Add the flag of a trait, if a command line can express it."""
    flag = f"--{name.replace('_', '-')}"
    if name in CHOICES:
        claims.add_argument(flag, choices=CHOICES[name])
    elif kind is bool:
        claims.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
    elif name == "bounds":
        claims.add_argument(flag, nargs=2, type=float, metavar=("LOW", "HIGH"))
    elif name == "differentiable":
        claims.add_argument(flag, nargs="+", metavar="INPUT")
    elif kind is float or (isinstance(kind, types.UnionType) and float in typing.get_args(kind)):
        claims.add_argument(flag, type=float)
    elif isinstance(kind, types.UnionType) and int in typing.get_args(kind):
        claims.add_argument(flag, type=int)


def _traits(options: argparse.Namespace, loss: Loss | None) -> Traits:
    stated: dict[str, Any] = {}
    for f in fields(Traits):
        value = getattr(options, f.name, None)
        if f.name not in BY_CALL and f.name != "dtypes" and value is not None:
            stated[f.name] = tuple(value) if isinstance(value, list) else value
    if options.collapse_log_n:
        stated["collapse_value"] = math.log
    if options.dtypes is not None:
        stated["dtypes"] = {_dtype(name): None for name in options.dtypes}
    if options.reference is not None:
        stated["reference"] = load(options.reference)
    ways = {
        "factory": options.by_temperature,
        "reductions": options.by_reduction,
        "chunked": options.by_chunk,
    }
    for trait, argument in ways.items():
        if argument is not None and options.loss is not None:
            stated[trait] = Vary(_named(options.loss), argument, _named_values(options.set))
    return Traits(**stated)


def _list(options: argparse.Namespace) -> str:
    traits = _traits(options, None)
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
