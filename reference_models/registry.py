"""The models by name, and the keys that ``--set`` takes."""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from reference_models.hycon import HyCon, HyConConfig
from reference_models.training import TrainingConfig


@dataclass(frozen=True)
class Entry:
    """One model of the command line.

    Attributes:
        summary, paper: a line each.
        config: the model's config with the paper's values.
        training: its training config.
        build: ``build(config, sizes, text_encoder)`` makes the network; ``sizes`` are the features
            of each modality, text first.
        required: modalities that it cannot do without.
    """

    summary: str
    paper: str
    config: Any
    training: TrainingConfig
    build: Callable[[Any, dict[str, int], PreTrainedModel | None], nn.Module]
    required: tuple[str, ...] = ()


# What runs unless told otherwise. The paper says Adam at 2e-5 for every layer, and not for how many
# epochs. At 2e-5 the layers that start from random weights have hardly moved after eight, so they
# have a rate of their own here, and the schedule comes down within the epochs that there are. The
# paper's own: learning_rate=2e-5 head_learning_rate=none schedule=constant warmup_ratio=0, with
# epochs=50 batch_size=48 from its author's sibling code.
FINE_TUNING = TrainingConfig(
    learning_rate=5e-5,
    head_learning_rate=1e-3,
    batch_size=32,
    epochs=8,
    patience=0,
    schedule="linear",
    warmup_ratio=0.1,
)
HYCON = "HyCon, IEEE Transactions on Affective Computing 14(3), 2023"
MODELS = {
    "hycon": Entry(
        summary="hybrid contrastive learning: intra-modal, inter-modal, semi-contrastive",
        paper=HYCON,
        config=HyConConfig(),
        training=FINE_TUNING,
        build=HyCon,
    ),
    "hycon-v2": Entry(
        summary="HyCon with selected and weighted pairs",
        paper=HYCON,
        config=HyConConfig(supervised_loss="hycon_v2"),
        training=FINE_TUNING,
        build=HyCon,
    ),
}


def find(name: str) -> Entry:
    """The entry of a model.

    Raises:
        ValueError: lists the models that exist.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[name]


def configure(entry: Entry, settings: Sequence[str]) -> tuple[Any, TrainingConfig]:
    """The entry's two configs with ``key=value`` settings put in.

    Raises:
        ValueError: not ``key=value``, a key that neither config has, or an impossible value.
    """
    changes: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    kinds = tuple(typing.get_type_hints(type(config)) for config in (entry.config, entry.training))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set: expected key=value, got {setting!r}")
        for kind, change in zip(kinds, changes, strict=True):
            if key in kind:
                change[key] = parse(key, text, kind[key])
                break
        else:
            known = ", ".join(name for kind in kinds for name in kind)
            raise ValueError(f"--set: expected one of the keys {known}, got {key!r}")
    return replace(entry.config, **changes[0]), replace(entry.training, **changes[1])


def parse(key: str, text: str, kind: Any) -> Any:
    """A value of the type ``kind`` out of text: "none", "true", "3", "0.1", "1,2,3", a word.

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
        parts = [part.strip() for part in text.split(",")]
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


def rebuild(config_class: type, values: Mapping[str, Any]) -> Any:
    """A config out of the JSON of a run folder, where tuples have become lists."""
    known = {field.name for field in fields(config_class)}
    return config_class(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    )
