"""Configs from ``--set key=value`` texts, from rows of tables, and from JSON."""

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from reference_models.paper import Paper
from reference_models.training_config import TrainingConfig


def configure(
    paper: Paper, settings: Sequence[str] = (), *, preset: str | None = None
) -> tuple[Any, TrainingConfig]:
    """A paper's two configs, changed by a preset and then by ``key=value`` settings.

    Raises:
        ValueError: an unknown preset, not ``key=value``, a key that neither config has, or an
            impossible value.
    """
    kinds = typing.get_type_hints(type(paper.config)) | typing.get_type_hints(TrainingConfig)
    changes: dict[str, Any] = {}
    if preset is not None:
        if preset not in paper.presets:
            known = ", ".join(paper.presets) or "none"
            raise ValueError(f"preset: expected one of {known}, got {preset!r}")
        changes |= paper.presets[preset]
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set: expected key=value, got {setting!r}")
        if key not in kinds:
            raise ValueError(f"--set: expected one of the keys {', '.join(kinds)}, got {key!r}")
        changes[key] = parse(key, text, kinds[key])
    return override(paper.config, paper.training, changes)


def override(
    config: Any, training: TrainingConfig, changes: Mapping[str, Any]
) -> tuple[Any, TrainingConfig]:
    """Both configs with some fields changed; each field belongs to one of the two.

    Raises:
        ValueError: a field that neither has, or an impossible value.
    """
    own = {f.name for f in fields(config)}
    shared = {f.name for f in fields(training)}
    if strange := set(changes) - own - shared:
        raise ValueError(f"expected fields of the two configs, got {', '.join(sorted(strange))}")
    return (
        replace(config, **{k: v for k, v in changes.items() if k in own}),
        replace(training, **{k: v for k, v in changes.items() if k in shared}),
    )


def parse(key: str, text: str, kind: Any) -> Any:
    """Parse a value of the type ``kind``: "none", "true", "3", "0.1", "1,2,3", a word.

    Raises:
        ValueError: names the key, what was expected and what came.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        return parse(key, text, next(kind for kind in inner if kind is not type(None)))
    if origin is typing.Literal:
        if text not in inner:
            raise ValueError(f"{key}: expected one of {', '.join(inner)}, got {text!r}")
        return text
    if origin is tuple:
        # "none", or an empty text, is the empty tuple.
        parts = [p.strip() for p in text.split(",")] if text.lower() not in ("", "none") else []
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else inner
        if len(parts) != len(kinds):
            raise ValueError(f"{key}: expected {len(kinds)} values with commas, got {text!r}")
        return tuple(parse(key, part, kind) for part, kind in zip(parts, kinds, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{key}: expected true or false, got {text!r}")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            words = {int: "a whole number", float: "a number"}[kind]
            raise ValueError(f"{key}: expected {words}, got {text!r}") from None
    return text


def explained(config_class: type) -> dict[str, str]:
    """What the class's docstring says of each field, by its name: the part under "Args"."""
    text = inspect.cleandoc(config_class.__doc__ or "").partition("\nArgs:\n")[2]
    text = re.split(r"\n(?=\S)", text)[0]  # up to the next heading
    # An entry begins with names at the first indent; its further lines are indented more.
    entries = re.split(r"\n(?= {4}\S)", re.sub(r"\n {8,}", " ", text))
    found = {}
    for entry in entries:
        names, _, words = entry.partition(": ")
        found |= {name.strip(): words.strip() for name in names.split(",")}
    return {field.name: found[field.name] for field in fields(config_class) if field.name in found}


def spell(value: Any) -> str:
    """The text of a value, as :func:`parse` reads it."""
    if isinstance(value, tuple | list):
        return ",".join(map(spell, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def changes_in_words(changes: Mapping[str, Any]) -> str:
    """Settings as ``--set`` takes them: "contrast_weight=0.0, gate=none"."""
    return ", ".join(f"{key}={spell(value)}" for key, value in changes.items())


def rebuild(config_class: type, values: Mapping[str, Any]) -> Any:
    """A config from the JSON of a run folder, in which tuples are lists.

    Raises:
        ValueError: an impossible value.
    """
    known = {field.name for field in fields(config_class)}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    try:
        return config_class(**given)
    except TypeError as error:  # a check of a value whose type it did not expect
        raise ValueError(
            f"expected the fields of a {config_class.__name__}, got {error}"
        ) from error
