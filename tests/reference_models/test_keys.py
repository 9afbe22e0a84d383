"""``key=value`` settings, presets and rows: what becomes of them, and what is refused."""

from dataclasses import dataclass, fields
from typing import Literal

import pytest

from reference_models.keys import configure, override, parse, rebuild, spell
from reference_models.registry import MODELS, find


@pytest.mark.parametrize("name", MODELS)
def test_every_key_belongs_to_one_config_and_takes_its_own_default(name):
    entry = MODELS[name]
    own = [{field.name for field in fields(c)} for c in (entry.config, entry.training)]
    assert not own[0] & own[1]
    written = [
        f"{key}={spell(getattr(config, key))}"
        for config, keys in zip((entry.config, entry.training), own, strict=True)
        for key in keys
    ]
    assert configure(entry, written) == (entry.config, entry.training)


def test_settings_reach_their_config_and_the_last_one_counts():
    settings = ["margin=0.5", "epochs=3", "refine=false", "head_learning_rate=1e-3", "epochs=4"]
    model, training = configure(find("hycon"), settings)
    assert (model.margin, model.refine) == (0.5, False)
    assert (training.epochs, training.head_learning_rate) == (4, 1e-3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("margin", "--set: expected key=value, got 'margin'"),
        (
            "colour=red",
            "--set: expected one of the keys hidden_size, .* precision, .*, got 'colour'",
        ),
        ("=3", "--set: expected one of the keys .*, got ''"),
        ("epochs=many", "epochs: expected a whole number, got 'many'"),
        ("epochs=2.5", "epochs: expected a whole number, got '2.5'"),
        ("margin=wide", "margin: expected a number, got 'wide'"),
        ("margin=2", "margin: expected a number from -1 to 1, got 2.0"),
        ("refine=maybe", "refine: expected true or false, got 'maybe'"),
        ("fusion=magic", "fusion: expected one of addition, .*, got 'magic'"),
        ("head_learning_rate=fast", "head_learning_rate: expected a number, got 'fast'"),
    ],
)
def test_a_setting_that_cannot_be_says_so(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        configure(find("hycon"), [setting])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("1e-3", float, 1e-3),
        ("True", bool, True),
        ("false", bool, False),
        ("word", str, "word"),
        ("none", float | None, None),
        ("0.5", float | None, 0.5),
        ("b", Literal["a", "b"], "b"),
        ("1, 2,3", tuple[float, ...], (1.0, 2.0, 3.0)),
        ("1,x", tuple[int, str], (1, "x")),
    ],
)
def test_text_becomes_a_value_of_its_type(text, kind, value):
    parsed = parse("key", text, kind)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("c", Literal["a", "b"], "key: expected one of a, b, got 'c'"),
        ("1,2,3", tuple[int, str], "key: expected 2 values with commas, got '1,2,3'"),
        ("1,x", tuple[int, ...], "key: expected a whole number, got 'x'"),
    ],
)
def test_text_of_another_type_is_an_error(text, kind, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse("key", text, kind)


def test_a_config_comes_back_from_json():
    @dataclass(frozen=True)
    class Config:
        sizes: tuple[int, ...] = (1, 2)
        name: str = "a"

    assert rebuild(Config, {"sizes": [3, 4], "name": "b"}) == Config((3, 4), "b")
    assert rebuild(Config, {"name": "b", "of a later version": 1}) == Config((1, 2), "b")


def test_no_part_of_a_tuple_is_spelled_none():
    assert spell(()) == "none"
    for text in ("none", "", "None"):
        assert parse("gate", text, tuple[str, ...]) == ()
    with pytest.raises(ValueError, match="channels: expected 3 values with commas, got 'none'"):
        parse("channels", "none", tuple[int, int, int])


def test_settings_come_after_the_preset():
    model, training = configure(find("mfon"), ["epochs=3"], preset="sims")
    assert (model.teacher_label, training.batch_size, training.epochs) == ("own", 128, 3)
    with pytest.raises(ValueError, match=r"^preset: expected one of mosi, .*, got 'mosy'$"):
        configure(find("mfon"), preset="mosy")


def test_a_field_that_nobody_has():
    entry = find("hycon")
    with pytest.raises(ValueError, match="expected fields of the two configs, got colour"):
        override(entry.config, entry.training, {"colour": 3, "epochs": 2})
