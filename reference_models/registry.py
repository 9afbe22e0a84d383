"""The models by name, and the keys that ``--set`` takes."""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from reference_models import (
    cormult,
    cormult_config,
    hycon,
    hycon_config,
    mcl_mcf,
    mcl_mcf_config,
    mfon,
    mfon_config,
    tecafn,
    tecafn_config,
    text_only,
)
from reference_models.inputs import MODALITIES
from reference_models.training import TrainingConfig

# What runs unless told otherwise, for every model, so that they can be compared; the papers' own
# settings are the presets. At HyCon's 2e-5 for every layer, those that start from random weights
# have hardly moved after eight epochs: they have a rate of their own here, and the schedule comes
# down within the epochs that there are.
FINE_TUNING = TrainingConfig(
    learning_rate=5e-5,
    head_learning_rate=1e-3,
    batch_size=32,
    epochs=8,
    patience=0,
    schedule="linear",
    warmup_ratio=0.1,
)


@dataclass(frozen=True)
class Entry:
    """One model of the command line.

    Attributes:
        summary, paper: a line each.
        config: the model's config with the paper's values.
        build: ``build(config, sizes, text_encoder)`` makes the network; ``sizes`` are the features
            of each modality, text first.
        presets: by data set, the config and training fields that the paper sets there.
        tables: the paper's tables: table -> row -> config and training fields, or "modalities".
        fewest: modalities, at least.
        reads: modalities that it knows.
        training: its training config.
    """

    summary: str
    paper: str
    config: Any
    build: Callable[[Any, dict[str, int], PreTrainedModel | None], nn.Module]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    fewest: int = 2
    reads: tuple[str, ...] = MODALITIES
    training: TrainingConfig = FINE_TUNING


HYCON = "HyCon, IEEE Transactions on Affective Computing 14(3), 2023"
MODELS = {
    "hycon": Entry(
        summary="hybrid contrastive learning: intra-modal, inter-modal, semi-contrastive",
        paper=HYCON,
        config=hycon_config.HyConConfig(),
        build=hycon.HyCon,
        presets=hycon_config.PRESETS,
        tables=hycon_config.TABLES,
    ),
    "hycon-v2": Entry(
        summary="HyCon with selected and weighted pairs",
        paper=HYCON,
        config=hycon_config.HyConConfig(supervised_loss="hycon_v2"),
        build=hycon.HyCon,
        presets=hycon_config.PRESETS,
        tables=hycon_config.TABLES,
    ),
    "tecafn": Entry(
        summary="text-centred contrast, and cross-sample fusion through a replacement gate",
        paper="TeCaFN, Multimedia Systems 30(4), 2024",
        config=tecafn_config.TeCaFNConfig(),
        build=tecafn.TeCaFN,
        presets=tecafn_config.PRESETS,
        tables=tecafn_config.TABLES,
        fewest=1,
    ),
    "mcl-mcf": Entry(
        summary="contrast on three levels, and multi-layer convolution fusion",
        paper="MCL-MCF, Multi-level Contrastive Learning: Hierarchical Alleviation of"
        " Heterogeneity in Multimodal Sentiment Analysis",
        config=mcl_mcf_config.MclMcfConfig(),
        build=mcl_mcf.MclMcf,
        presets=mcl_mcf_config.PRESETS,
        tables=mcl_mcf_config.TABLES,
    ),
    "mfon": Entry(
        summary="prompted cross attention, unimodal teachers, and contrast between modalities",
        paper="MFON, COLING 2025, pages 4611-4621",
        config=mfon_config.MFONConfig(),
        build=mfon.MFON,
        presets=mfon_config.PRESETS,
        tables=mfon_config.TABLES,
        fewest=1,
    ),
    "cormult": Entry(
        summary="a transformer across modalities, weighted by a pre-trained correlation",
        paper="CorMulT, arXiv:2407.07046, 2024",
        config=cormult_config.CorMulTConfig(),
        build=cormult.CorMulT,
        presets=cormult_config.PRESETS,
        tables=cormult_config.TABLES,
    ),
    "text-only": Entry(
        summary="the text encoder and one linear layer: what the others have to beat",
        paper="none",
        config=text_only.TextOnlyConfig(),
        build=text_only.TextOnly,
        tables=text_only.TABLES,
        fewest=1,
        reads=("text",),
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


def configure(
    entry: Entry, settings: Sequence[str] = (), *, preset: str | None = None
) -> tuple[Any, TrainingConfig]:
    """The entry's two configs with a preset, and then ``key=value`` settings, put in.

    Raises:
        ValueError: an unknown preset, not ``key=value``, a key that neither config has, or an
            impossible value.
    """
    kinds = typing.get_type_hints(type(entry.config)) | typing.get_type_hints(TrainingConfig)
    changes: dict[str, Any] = {}
    if preset is not None:
        if preset not in entry.presets:
            known = ", ".join(entry.presets) or "none"
            raise ValueError(f"preset: expected one of {known}, got {preset!r}")
        changes |= entry.presets[preset]
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set: expected key=value, got {setting!r}")
        if key not in kinds:
            raise ValueError(f"--set: expected one of the keys {', '.join(kinds)}, got {key!r}")
        changes[key] = parse(key, text, kinds[key])
    return override(entry.config, entry.training, changes)


def override(
    config: Any, training: TrainingConfig, changes: Mapping[str, Any]
) -> tuple[Any, TrainingConfig]:
    """Both configs with fields changed, each of them where it is known.

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
        # "none", or nothing at all, is no part.
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


def spell(value: Any) -> str:
    """The text that :func:`parse` makes the value of."""
    if isinstance(value, tuple | list):
        return ",".join(map(spell, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def rebuild(config_class: type, values: Mapping[str, Any]) -> Any:
    """A config out of the JSON of a run folder, where tuples have become lists."""
    known = {field.name for field in fields(config_class)}
    return config_class(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
    )
