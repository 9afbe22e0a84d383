"""An example as Python code that reproduces a failure."""

import functools
import importlib
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.traits import Traits

SMALL = 64
"""The largest number of elements of a state_dict that is printed."""


class Nameless(Exception):
    """No code can be given that makes the object."""


def snippet(check: str, loss: object, traits: Traits, batch: Batch, draws: dict[str, Any]) -> str:
    """Code that replays a check on an example."""
    imports = {"import torch"}
    claimed = traits.claimed()
    names = ["Traits", "replay"] if claimed else ["replay"]
    imports.add(f"from mmcontrast.testing import {', '.join(names)}")
    noun = traits.noun
    lines = _loss_lines(noun, loss, imports)
    lines += _batch_lines(batch)
    arguments = [repr(check), noun, *_argument_names(batch)]
    if claimed:
        stated = []
        for name, value in claimed.items():
            try:
                stated.append(f"{name}={expression(value, imports)}")
            except Nameless:
                lines.insert(0, f"# {name}: as it was given to the suite")
                stated.append(f"{name}={name}")
        arguments.append(f"traits=Traits({', '.join(stated)})")
    if draws:
        drawn = ", ".join(f"{name}={literal(value)}" for name, value in draws.items())
        arguments.append(f"draws=dict({drawn})")
    call = f"replay({', '.join(arguments)})"
    if len(call) > 96:
        call = "replay(\n    " + ",\n    ".join(arguments) + ",\n)"
    return "\n".join([*sorted(imports, key=_import_order), "", *lines, call])


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _loss_lines(noun: str, loss: object, imports: set[str]) -> list[str]:
    try:
        made = expression(loss, imports)
    except Nameless:
        return [f"# {noun}: the one under test, {describe(loss)}, which no import names"]
    if not isinstance(loss, nn.Module):
        return [f"{noun} = {made}"]
    try:
        return [f"{noun} = {made}", *_state_lines(noun, loss, made, imports)]
    except Exception:  # a constructor may raise anything; the report must not fail
        return [f"# {noun}: the one under test, a {describe(loss)}, which its settings do not make"]


def _state_lines(noun: str, loss: nn.Module, made: str, imports: set[str]) -> list[str]:
    """Code that loads the state, where a new Module has another one and there are few numbers."""
    namespace: dict[str, Any] = {}
    exec("\n".join(imports), namespace)
    twin = eval(made, namespace).state_dict()
    state = loss.state_dict()
    if all(torch.equal(twin[k], v) for k, v in state.items() if k in twin):
        return []
    if sum(x.numel() for x in state.values()) > SMALL:
        return [f"# {noun}.load_state_dict(...): its numbers, which are too many to print"]
    items = ", ".join(f"{name!r}: {literal(x)}" for name, x in state.items())
    return [f"{noun}.load_state_dict({{{items}}})"]


def _batch_lines(batch: Batch) -> list[str]:
    if batch.kind == "multimodal":
        inside = "".join(f"    {name!r}: {literal(x)},\n" for name, x in batch.rows.items())
        lines = [f"features = {{\n{inside}}}"]
    else:
        lines = [f"{name} = {literal(x)}" for name, x in batch.rows.items()]
    if batch.labels is not None:
        lines.append(f"labels = {literal(batch.labels)}")
    return lines


def _argument_names(batch: Batch) -> list[str]:
    first = ["features"] if batch.kind == "multimodal" else list(batch.rows)
    return first if batch.labels is None else [*first, "labels"]


def literal(value: Any) -> str:
    """Numbers, strings, containers and tensors as code."""
    if isinstance(value, Tensor):
        dtype = "" if value.dtype in (torch.bool, torch.int64) else f", dtype={value.dtype}"
        code = f"torch.tensor({literal(value.tolist())}{dtype})"
        return code if value.numel() else f"torch.empty({tuple(value.shape)}{dtype})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, list | tuple):
        inside = ", ".join(literal(x) for x in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str | int | float | torch.dtype) or value is None:
        return repr(value)
    raise Nameless(value)


def expression(value: Any, imports: set[str]) -> str:
    """Code that makes a value; the import lines that it needs are added to ``imports``."""
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _imported(value, imports)
    if isinstance(value, types.MethodType):
        return f"{expression(value.__self__, imports)}.{value.__name__}"
    if isinstance(value, functools.partial):
        imports.add("import functools")
        parts = [expression(value.func, imports), *(expression(x, imports) for x in value.args)]
        parts += [f"{k}={expression(x, imports)}" for k, x in value.keywords.items()]
        return f"functools.partial({', '.join(parts)})"
    if isinstance(value, nn.Module):
        return _constructed(value, imports, _settings(value))
    if is_dataclass(value) and not isinstance(value, type):
        stated = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        return _constructed(value, imports, stated)
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(
                f"{expression(k, imports)}: {expression(v, imports)}" for k, v in value.items()
            )
            + "}"
        )
    return literal(value)


def _imported(value: Callable[..., Any] | type, imports: set[str]) -> str:
    """The name of an importable function or class; Nameless for others."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if module in (None, "__main__") or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        raise Nameless(value)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise Nameless(value) from None
    if found is not value:
        raise Nameless(value)
    imports.add(f"from {module} import {name.split('.')[0]}")
    return name


def _settings(module: nn.Module) -> dict[str, Any]:
    """The constructor arguments of a Module, read from the attributes of the same names."""
    found = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(module, name) or isinstance(getattr(module, name), Tensor):
            if parameter.default is parameter.empty:
                raise Nameless(module)
            continue
        value = getattr(module, name)
        if value is not parameter.default:
            found[name] = value
    return found


def _constructed(value: Any, imports: set[str], settings: dict[str, Any]) -> str:
    stated = [f"{name}={expression(x, imports)}" for name, x in settings.items()]
    return f"{_imported(type(value), imports)}({', '.join(stated)})"


def describe(loss: object) -> str:
    """A name for a report."""
    if isinstance(loss, nn.Module):
        return type(loss).__name__
    if isinstance(loss, functools.partial):
        return f"partial({describe(loss.func)})"
    name = getattr(loss, "__qualname__", None)
    return name if isinstance(name, str) else type(loss).__name__
