"""The papers' numbers: all carried over, in one unit, and looked up where they belong."""

import json
from collections import Counter

import numpy as np
import pytest

from reference_models.data.data_sets import NAMES
from reference_models.registry import MODELS
from reference_models.running.metrics import task_metrics
from reference_models.tables.published import published_row
from reference_models.tables.statistics import in_percent, summaries

# A second model of a folder has the same numbers.
PAPERS = {name: paper for name, paper in MODELS.items() if paper.published and name != "hycon-v2"}
TABLES = [
    (model, table, data_set)
    for model, paper in PAPERS.items()
    for table, data_sets in paper.printed.get("tables", {}).items()
    for data_set in data_sets
]


IN_THE_SOURCE = {
    "HyCon": "hycon",
    "TeCaFN": "tecafn",
    "MCL-MCF": "mcl-mcf",
    "MFON": "mfon",
    "CorMulT": "cormult",
}


DATA = {"MOSI": "mosi", "MOSEI": "mosei", "SIMS": "sims", "CMU-MOSI": "mosi", "CMU-MOSEI": "mosei"}


DATA |= {"CH-SIMS": "sims", "UR-FUNNY": "ur_funny"}


@pytest.fixture(scope="module")
def source(data_folder):
    """The collection that the file was made from."""
    path = data_folder.parent / "published_results.json"
    if not path.is_file():
        pytest.skip(f"the collected results are absent: {path}")
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["_conventions"]
    return content


def numbers(values, factor=1):
    """Every number in nested JSON; those of keys that end in _x100 divided by 100."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers(value, 100 if key.endswith("_x100") else factor)
    elif isinstance(values, list):
        for value in values:
            yield from numbers(value, factor)
    elif isinstance(values, int | float):
        yield round(values / factor, 6)


def test_every_number_is_carried_over_and_none_is_made_up(source):
    assert {IN_THE_SOURCE[name] for name in source} <= PAPERS.keys()
    for name, content in source.items():
        paper = PAPERS[IN_THE_SOURCE[name]].printed
        ours = Counter(numbers({"tables": paper["tables"], "quoted": paper.get("quoted", {})}))
        assert ours == Counter(numbers(content)), name


def metric_of(column):
    """A column of the source as we call it: "happy acc" is accuracy_happy."""
    emotion, _, metric = column.partition(" ")
    if emotion in ("happy", "sad", "angry", "neutral", "average"):
        emotion = "mean" if emotion == "average" else emotion
        return f"{'accuracy' if metric == 'acc' else metric}_{emotion}"
    return {
        "MFLOPs (header says TFLOPs/M)": "mflops",
        "trainable params M": "params_million",
    }.get(column, column.replace(" ", "_"))


def cells(name, content):
    """(table, data set, row, column, value) of every cell in the tables of a model."""
    for data, values in content["headline"].items():
        data_set = DATA[data]
        if all(isinstance(value, list) for value in values.values()):
            for row, line in values.items():
                for column, value in zip(content["columns"], line, strict=True):
                    yield "headline", data_set, row, column, value
            continue
        for column, value in values.items():
            inner = value if isinstance(value, dict) else {"": value}
            for side, number in inner.items():
                if column != "note":
                    metric = column.removesuffix("_x100") + (f" {side}" if side else "")
                    scaled = number / 100 if column.endswith("_x100") else number
                    yield "headline", data_set, name, metric, scaled
    for key, rows in content.items():
        if not isinstance(rows, dict) or key in ("headline", "complexity"):
            continue
        table = key.removesuffix("_MOSI")
        kind = "sweep" if table.startswith("sweep") else table
        columns = content.get(f"{kind}_columns") or content.get(f"{kind}_image_columns")
        columns = columns or content.get("columns")
        for row, line in rows.items():
            if isinstance(line, list):
                for column, value in zip(columns, line, strict=True):
                    data, _, metric = column.partition(" ")
                    if data in DATA:
                        yield table, DATA[data], row, metric, value
                    elif table == "iemocap":
                        yield "headline", "iemocap", row, column, value
                    else:
                        data_set = "mosi" if key.endswith("_MOSI") else "mosei"
                        yield table, data_set, row, column, value


def test_every_cell_stands_in_its_place(source):
    count = 0
    for name, content in source.items():
        for table, data_set, row, column, value in cells(name, content):
            ours = PAPERS[IN_THE_SOURCE[name]].printed["tables"][table][data_set]
            got = ours["rows"][row][ours["columns"].index(metric_of(column))]
            assert got == (value if value is None else pytest.approx(value, rel=1e-12)), (name, row)
            count += 1
    assert count == sum(
        len(line)
        for name in source
        for table in PAPERS[IN_THE_SOURCE[name]].printed["tables"].values()
        for part in table.values()
        for line in part["rows"].values()
    )


@pytest.mark.parametrize(("model", "table", "data_set"), TABLES)
def test_tables_have_one_form_and_one_unit(model, table, data_set):
    assert data_set in NAMES
    part = PAPERS[model].printed["tables"][table][data_set]
    assert set(part) - {"note"} == {"columns", "rows"}
    assert len(set(part["columns"])) == len(part["columns"])
    for row in part["rows"].values():
        assert len(row) == len(part["columns"])
        for column, value in zip(part["columns"], row, strict=True):
            if value is None:
                assert part.get("note"), (
                    f"add a 'note' to {table}, {data_set}: why {column} is null"
                )
            elif in_percent(column):
                assert 10 < value < 100
            elif column in ("mae", "corr"):
                assert 0 < value < 1.5


KEYS = ("paper", "source", "setting", "measured_as", "tables")
TOPICS = ("text encoder", "modalities", "features", "data", "training")
TOPICS += ("selection", "runs", "metrics")


def faults(paper):
    """What is wrong with a ``published.json``, apart from its tables, in words."""
    if absent := [key for key in KEYS if key not in paper]:
        return [f"add {key!r}" for key in absent]
    setting, source = paper["setting"], paper["source"]
    found = [f"add {topic!r} to 'setting'" for topic in TOPICS if not setting.get(topic)]
    found += [f"'setting': {topic!r} is no topic" for topic in setting if topic not in TOPICS]
    if not found and tuple(setting) != TOPICS:
        found = [f"'setting': bring the topics into the order {', '.join(TOPICS)}"]
    if not paper["paper"]:
        found.append("'paper': name it")
    if source is not None and not source.startswith("https://github.com/"):
        found.append(f"'source': expected a page on GitHub or null, got {source!r}")
    return found


@pytest.mark.parametrize("model", PAPERS)
def test_every_model_says_what_its_paper_did(model):
    if found := faults(PAPERS[model].printed):
        pytest.fail(f"{PAPERS[model].published}: {'; '.join(found)}", pytrace=False)


def test_what_is_wrong_with_a_file_is_said():
    good = PAPERS["mfon"].printed
    setting = good["setting"]
    assert faults({"paper": "a paper", "tables": {}}) == [
        *("add 'source'", "add 'setting'", "add 'measured_as'")
    ]
    fewer = {topic: words for topic, words in setting.items() if topic != "runs"}
    assert faults(good | {"setting": fewer}) == ["add 'runs' to 'setting'"]
    assert faults(good | {"setting": setting | {"moon": "full"}}) == [
        "'setting': 'moon' is no topic"
    ]
    assert "order text encoder" in faults(good | {"setting": {"metrics": "x", **setting}})[0]
    assert faults(good | {"paper": ""}) == ["'paper': name it"]
    assert "got 'a shelf'" in faults(good | {"source": "a shelf"})[0]


def test_every_printed_row_can_be_run_or_is_named_here():
    """Apart from features outside the networks, and a row that is no row of CorMulT's own."""
    not_run = {("cormult", "mce_ablation"), ("cormult", "strategy", "Average_row_as_printed")}
    for model, table, data_set in TABLES:
        printed = PAPERS[model].printed["tables"][table][data_set]
        for row in printed["rows"]:
            if (model, table) in not_run or (model, table, row) in not_run:
                continue
            encoder = "xlnet-base-cased" if row.endswith("-XLNet") else "bert-base-uncased"
            here = row.removesuffix("-BERT").removesuffix("-XLNet")
            known = MODELS[model].tables.get(table, {})
            assert here in known, f"add the row {here!r} to the table {table!r} of {model}"
            found = published_row(MODELS[model], table, data_set, here, text_encoder=encoder)
            assert (
                list(found.values())
                == PAPERS[model].printed["tables"][table][data_set]["rows"][row]
            )


def metrics_of(data_set):
    random = np.random.default_rng(0)
    task = {"mosi": "sentiment", "mosei": "sentiment", "ur_funny": "humor"}.get(data_set, data_set)
    if task in ("sentiment", "sims"):
        return task_metrics(task, random.uniform(-1, 1, 40), random.uniform(-1, 1, 40))
    shape = (40, 4) if task == "iemocap" else (40,)
    return task_metrics(task, random.normal(size=(*shape, 2)), random.integers(0, 2, shape))


@pytest.mark.parametrize(
    ("model", "table", "data_set"), [case for case in TABLES if case[1] != "mce_ablation"]
)
def test_every_column_is_one_of_our_metrics(model, table, data_set):
    row = next(iter(PAPERS[model].printed["tables"][table][data_set]["rows"]))
    found = published_row(MODELS[model], table, data_set, row)
    ours = summaries([metrics_of(data_set)])
    unknown = set(found) - ours.keys() - {"mflops", "params_million"}
    assert not unknown, f"no metric of ours, and not in measured_as: {', '.join(sorted(unknown))}"


def test_hycon_is_compared_by_the_protocol_of_its_data():
    found = published_row(MODELS["hycon"], "ablation", "mosi", "wo_SCL")
    assert found == {
        "acc7": 47.0,
        "mag_bert_acc2_p_n": 84.0,
        "mag_bert_f1_p_n": 84.0,
        "mag_bert_mae": 0.748,
        "mag_bert_corr": 0.776,
    }


def test_what_is_not_printed_is_empty():
    for table, data_set, row in (
        ("contrast", "sims", "full"),
        ("ablation", "sims", "HyCon"),
        ("ablation", "mosi", "wo_everything"),
        ("ablation", None, "HyCon"),
    ):
        assert published_row(MODELS["hycon"], table, data_set, row) == {}
    assert published_row(MODELS["tecafn"], "headline", "ur_funny", "TeCaFN") == {"accuracy": None}


def test_the_table_of_contrast_takes_its_rows_where_the_papers_print_them():
    for name, paper in MODELS.items():
        assert set(paper.contrast) <= set(paper.tables.get("contrast", {}))
        for row, (table, printed) in paper.contrast.items():
            data_set = next(iter(paper.printed["tables"][table]))
            found = published_row(paper, "contrast", data_set, row)
            assert found, name
            assert found == published_row(paper, table, data_set, printed)
    assert published_row(MODELS["tecafn"], "contrast", "mosi", "wo_contrast") == {}


def test_the_second_version_has_the_numbers_of_its_own_rows():
    paper = MODELS["hycon-v2"]
    assert published_row(paper, "headline", "mosi", "HyCon-v2")["acc7"] == 47.7
    printed = paper.printed["tables"]
    for table, rows in paper.tables.items():
        for row in rows if table != "contrast" else ():
            data_set = next(iter(printed[table]))
            assert published_row(paper, table, data_set, row), (table, row)


def test_a_paper_without_numbers_has_none():
    for table, row in (("headline", "text-only"), ("contrast", "full")):
        assert published_row(MODELS["text-only"], table, "mosi", row) == {}
