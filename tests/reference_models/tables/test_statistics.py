"""Metrics as tables show them: names, digits, means over seeds."""

import re
import statistics

import pytest

from reference_models.tables.statistics import (
    columns,
    main_metrics,
    mean_and_deviation,
    printed,
    summaries,
    text_table,
    title,
    units,
)

METRICS = {
    "mae": 0.71234,
    "corr": 0.8,
    "acc7": 0.5,
    "acc5": 0.5,
    "acc2": {"nn_n": 0.8125, "p_n": 0.85},
    "f1": {"nn_n": 0.81, "p_n": 0.849},
}


def test_metrics_that_are_not_defined_are_said_so():
    none = METRICS | {"corr": None, "mae": float("nan"), "acc2": {"nn_n": 0.5, "p_n": None}}
    names = ["MAE", "Corr", "Acc-7", "Acc-2 nn/n, p/n", "F1 nn/n, p/n"]
    values = ["0.712", "0.800", "50.0", "81.2 / 85.0", "81.0 / 84.9"]
    assert columns(METRICS | {"mag_bert": METRICS}) == dict(zip(names, values, strict=True))
    assert list(columns(none).values()) == ["n/a", "n/a", "50.0", "50.0 / n/a", "81.0 / 84.9"]


def test_other_tasks_have_columns_of_their_own():
    sims = {"mae": 0.4, "corr": 0.5, "acc2": 0.78, "acc5": 0.3, "f1": 0.77}
    assert columns(sims) == {
        "MAE": "0.400",
        "Corr": "0.500",
        "Acc-2": "78.0",
        "Acc-5": "30.0",
        "F1": "77.0",
    }
    four = {"accuracy": {"happy": 0.5, "mean": 0.75}, "f1": {"happy": 0.25}}
    assert columns(four) == {"Accuracy happy": "50.0", "Accuracy mean": "75.0", "F1 happy": "25.0"}


def test_the_text_table_stands_in_columns():
    table = text_table({"a": METRICS, "a long name": METRICS | {"mae": 10.0}})
    lines = table.splitlines()
    assert len(lines) == 3
    titles = ["MAE", "Corr", "Acc-7", "Acc-2 nn/n, p/n", "F1 nn/n, p/n"]
    assert re.split("  +", lines[0].strip()) == titles
    for heading, value in zip(titles[::2], ("0.712", "50.0", "84.9"), strict=True):
        assert lines[0].index(heading) + len(heading) == lines[1].rindex(value) + len(value)
    assert len({len(line) for line in lines}) == 1


def test_means_are_over_what_is_defined_with_shares_in_percent():
    runs = [METRICS, METRICS | {"mae": 0.75, "corr": None}, METRICS | {"acc7": 0.25, "corr": None}]
    found = summaries([{**run, "mag_bert": {"f1": {"p_n": 0.5}}} for run in runs])
    assert found["mag_bert_f1_p_n"].values == (50.0, 50.0, 50.0)
    assert found["corr"].values == (0.8,)
    assert found["acc7"].mean == pytest.approx(100 * (0.5 + 0.5 + 0.25) / 3)
    assert found["acc7"].std == pytest.approx(statistics.pstdev([50, 50, 25]))
    assert mean_and_deviation("acc7", found["acc7"]) == "41.7 ± 11.8"
    assert mean_and_deviation("corr", found["corr"]) == "0.800"
    nothing = summaries([{"corr": None}])["corr"]
    assert (nothing.values, mean_and_deviation("corr", nothing)) == ((), "n/a")
    assert summaries([]) == {}


def test_acc7_is_left_out_with_a_word_where_the_labels_have_no_seven_classes():
    without = {name: value for name, value in METRICS.items() if name != "acc7"}
    small = {**without, "mag_bert": without}
    assert text_table({"a": METRICS | {"mag_bert": METRICS}}).count("\n") == 1
    head, *_, last = text_table({"a": small}).splitlines()
    assert re.split("  +", head.strip()) == [
        "MAE",
        "Corr",
        "Acc-5",
        "Acc-2 nn/n, p/n",
        "F1 nn/n, p/n",
    ]
    assert last == "Acc-7 is left out where the labels of the data do not reach from -3 to 3."
    names = list(summaries([small]))
    assert main_metrics(names)[:4] == ["mae", "corr", "acc5", "acc2_nn_n"]
    assert "acc5" not in main_metrics([*names, "acc7"])
    full = [*names, "acc7", "mag_bert_acc7"]
    assert units([full, names]).endswith(last)
    assert last not in units([full, ["accuracy", "f1"], ["mae", "acc3"], []])


def test_names_and_digits():
    titles = {
        "acc2_nn_n": "Acc-2 nn/n",
        "mag_bert_f1_p_n": "F1 p/n (MAG-BERT)",
        "accuracy_mean": "Accuracy mean",
        "mflops": "mflops",
        "params_million": "params million",
    }
    assert {name: title(name) for name in titles} == titles
    cases = [("acc7", 46.0, "46.0"), ("acc2", 84.99, "84.99"), ("mae", 0.7, "0.700")]
    cases += [("corr", 0.5888, "0.5888"), ("acc2", None, "")]
    for name, value, text in cases:
        assert printed(name, value) == text
