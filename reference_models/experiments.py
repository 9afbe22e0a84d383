"""A paper's table once more: every row over several seeds, beside what the paper prints.

Each run is an ordinary run folder, ``<row>/seed-<n>``; after every one of them the table is written
anew. The same call goes on where an earlier one was stopped, and trains nothing twice.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState

from reference_models import folders, registry, runs
from reference_models.data.corpus import Corpus
from reference_models.data.loading import load_corpus
from reference_models.inputs import MODALITIES
from reference_models.parts import Parts, build
from reference_models.published import NAMES, PAPERS, data_set_of, is_synthetic, published_row
from reference_models.tables import Line, summaries, write_comparison
from reference_models.training import SELECTIONS, device


@dataclass
class Row:
    """One row of the table: what it changes, and what became of it.

    Attributes:
        name, overrides: as in the model's tables.
        folder: of its runs, in the experiment's.
        config: what its run folders hold, but for the seed; None where it cannot run.
        reason: why not.
        same_as: an earlier row that comes to the same run; that one's runs are its own.
        failures: seed -> why its training ended without a result.
    """

    name: str
    overrides: Mapping[str, Any]
    folder: str
    config: dict[str, Any] | None = None
    reason: str | None = None
    same_as: str | None = None
    failures: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What all rows share. See :func:`reproduce`."""

    model: str
    table: str
    corpus: Corpus
    seeds: tuple[int, ...]
    out: Path
    text_encoder: str | None
    settings: tuple[str, ...]
    modalities: tuple[str, ...] | None
    labels: str | None
    preset: str | None
    data_set: str | None
    synthetic: bool

    def configure(self, settings: Sequence[str] = ()) -> tuple[Any, Any]:
        """The model's two configs, before a row changes them."""
        return registry.configure(registry.find(self.model), settings, preset=self.preset)

    def build(self, row: Row, seed: int) -> Parts:
        """The network of a row; a ValueError says why it cannot run."""
        changes = dict(row.overrides)
        modalities = changes.pop("modalities", self.modalities)
        configs = registry.override(*self.configure(self.settings), changes)
        reads_text = modalities is None or "text" in modalities
        return build(
            self.model,
            *configs,
            self.corpus,
            seed=seed,
            text_encoder=self.text_encoder if reads_text else None,
            modalities=modalities,
            labels=self.labels,
        )

    def results(self, row: Row) -> list[dict[str, Any]]:
        """The metrics on the test split of the runs that are finished."""
        places = (self.out / row.folder / f"seed-{seed}" for seed in self.seeds)
        done = [place for place in places if folders.state(place) == "finished"]
        return [folders.read_json(place / "metrics.json")["test"] for place in done]


def _silent(line: str) -> None:
    pass


def reproduce(
    model: str,
    table: str,
    *,
    data: str | Path,
    seeds: Sequence[int],
    out: Path,
    rows: Sequence[str] | None = None,
    text_encoder: str | None = None,
    settings: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
    labels: str | None = None,
    preset: str | None = None,
    say: Callable[[str], None] = _silent,
) -> Path:
    """Train every row of a table with every seed, and write the table in four formats.

    ``table.md``, ``table.csv`` (a line for each row and metric), ``table.json`` (everything) and
    ``index.html``. Accuracies and F1 are in percent; deviations are of the population. The paper's
    numbers stand beside the measured ones where the data are the paper's, by the numbers of samples
    in its splits, and never beside what was measured on synthetic data.

    Args:
        model, table: their names; the rows are those of the model's ``TABLES``.
        data, labels: the file, and the table of sentences beside it, as ``train`` takes them.
        seeds: one run each.
        out: folder of the runs and the table.
        rows: some of the table's rows; None: all.
        text_encoder, modalities: as ``train`` takes them; a row's own modalities come first.
        settings: "key=value", for every row; what a row changes itself stays as the row has it.
        preset: of the model; "none"; None: the one for the data set, where the data are the
            paper's.
        say: takes lines for the reader.

    Returns:
        The page.

    Raises:
        ValueError: an unknown model, table or row, no row that can run, or a run folder that holds
            something else, or a run with other settings.
    """
    if model not in PAPERS:
        raise ValueError(f"model: expected one of {', '.join(PAPERS)}, got {model!r}")
    entry = registry.find(model)
    tables = entry.tables
    if table not in tables:
        raise ValueError(f"--table: expected one of {', '.join(tables)} of {model}, got {table!r}")
    for name in rows or ():
        if name not in tables[table]:
            known = ", ".join(tables[table])
            raise ValueError(f"--rows: expected some of {known} of {table}, got {name!r}")
    corpus = load_corpus(data, labels=labels)
    data_set = data_set_of(corpus)
    chosen = preset or (data_set if data_set in entry.presets else "none")
    run = Experiment(
        model,
        table,
        corpus,
        tuple(seeds),
        out,
        text_encoder,
        tuple(settings),
        None if modalities is None else tuple(modalities),
        labels,
        preset=None if chosen == "none" else chosen,
        data_set=data_set,
        synthetic=is_synthetic(corpus),
    )
    plan = [
        Row(name, overrides, re.sub(r"[^\w.+-]", "-", name))
        for name, overrides in tables[table].items()
        if rows is None or name in rows
    ]
    _prepare(run, plan)
    write_tables(run, plan)
    if not PartialState(cpu=device().type == "cpu").is_main_process:
        say = _silent
    say(f"the table so far, and what differs from the paper: {out / 'table.md'}")
    for seed in seeds:
        for row in plan:
            place = out / row.folder / f"seed-{seed}"
            if row.reason or row.same_as or folders.state(place) == "finished":
                continue
            say(f"{row.name}, seed {seed}: training in {place}")
            try:
                runs.train(run.build(row, seed), corpus, place)
            except ValueError as error:  # one that diverges leaves the others to go on
                row.failures[seed] = str(error)
                say(f"{row.name}, seed {seed}: {error}")
            write_tables(run, plan)
    say(f"\n{(out / 'table.md').read_text(encoding='utf-8')}\npage: {out / 'index.html'}")
    return out / "index.html"


def _prepare(run: Experiment, plan: Sequence[Row]) -> None:
    """Find out what each row comes to, and refuse folders of others before anything is trained."""
    known: dict[str, Row] = {}
    for row in plan:
        try:
            row.config = run.build(row, run.seeds[0]).config
        except ValueError as error:
            row.reason = str(error)
            continue
        key = json.dumps({k: v for k, v in row.config.items() if k != "left_out"})
        if key in known:
            row.same_as, row.folder = known[key].name, known[key].folder
        else:
            known[key] = row
    if not known:
        raise ValueError(plan[0].reason)
    for row in known.values():
        for seed in run.seeds:
            place = run.out / row.folder / f"seed-{seed}"
            if folders.state(place) == "other":
                raise ValueError(f"--out {run.out}: expected runs, got other files in {place}")
            if folders.state(place) != "empty":
                folders.check_same(place, row.config | {"seed": seed})


def differences(run: Experiment, plan: Sequence[Row]) -> list[tuple[str, str, str]]:
    """What is not as in the paper, or may not be: topic, the paper, here."""
    config = next(row.config for row in plan if row.config)
    _, training = run.configure(run.settings)
    corpus, data, text = run.corpus, config["data"], config["text"]
    encoder = {None: "none", "features": "none: precomputed features"}
    missing = [m for m in MODALITIES if m not in corpus.modalities]
    changed = [
        f"; {key}={new} (instead of {old})"
        for before, after in zip(run.configure(), run.configure(run.settings), strict=True)
        for (key, new), old in zip(asdict(after).items(), asdict(before).values(), strict=True)
        if new != old
    ]
    rate = f"{training.head_learning_rate or training.learning_rate:g}"
    if text["encoder"] not in (None, "scratch"):
        rate = f"{training.learning_rate:g} in the text encoder, {rate} elsewhere"
    here = {
        "text encoder": encoder.get(text["column"], text["encoder"]),
        "modalities": ", ".join(run.modalities or corpus.modalities)
        + (f" (not in the file: {', '.join(missing)})" if missing else ""),
        "features": ", ".join(
            f"{m} {x.shape[2]} in up to {x.shape[1]} steps"
            for m, x in corpus.splits["train"].features.items()
        ),
        "data": f"{Path(data['path']).name}, {data['known_as'] or 'not a known public file'},"
        f" SHA-256 {data['sha256'][:12]}..., {'/'.join(map(str, data['samples'].values()))} samples"
        + (", synthetic" if run.synthetic else ""),
        "training": f"preset {run.preset or 'none'}: up to {training.epochs} epochs, batches of"
        f" {training.batch_size}, learning rate {rate}{''.join(changed)}",
        "selection": SELECTIONS[training.selection],
        "runs": f"mean of {len(run.seeds)}: seeds {', '.join(map(str, run.seeds))}",
    }
    setting = PAPERS[run.model]["setting"]
    return [(topic, words, here.get(topic, "the same")) for topic, words in setting.items()]


def write_tables(run: Experiment, plan: Sequence[Row]) -> None:
    """Write what there is by now; on several ranks the first one does."""
    if not PartialState(cpu=device().type == "cpu").is_main_process:
        return
    lines = []
    for row in plan:
        remarks = [] if row.reason is None else [f"cannot run here: {row.reason}"]
        if row.same_as is not None:
            remarks.append(f"comes to the same run as {row.same_as}")
        remarks += [f"seed {seed} failed: {words}" for seed, words in row.failures.items()]
        measured = {} if row.reason else summaries(run.results(row))
        published = published_row(
            run.model, run.table, run.data_set, row.name, text_encoder=run.text_encoder
        )
        lines.append(Line(row.name, measured, published, "; ".join(remarks)))
    write_comparison(
        run.out,
        lines,
        heading=f"{run.model}, table {run.table}",
        note=_note(run, any(line.published for line in lines)),
        differences=differences(run, plan),
        details={
            "model": run.model,
            "table": run.table,
            "data_set": run.data_set,
            "synthetic": run.synthetic,
            "seeds": list(run.seeds),
            "overrides": {row.name: dict(row.overrides) for row in plan},
            "folders": {row.name: row.folder for row in plan if row.reason is None},
        },
    )


def _note(run: Experiment, published: bool) -> str:
    if run.synthetic:
        return (
            "The corpus is synthetic. Nothing published stands beside what is measured on it: it"
            " shows that the machinery works, and no more."
        )
    if run.data_set is None:
        return (
            "Nothing published stands here: by its numbers of samples the file is none of the data"
            " sets that the papers report on."
        )
    if not published:
        return f"The paper prints no such row for {NAMES[run.data_set]}."
    return (
        f"Published numbers are the paper's, {NAMES[run.data_set]}. They may be compared with the"
        " measured ones as far as nothing that is listed below tells them apart."
    )
