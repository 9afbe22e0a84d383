"""The demo: HyCon-v2 and the same network without contrast, three seeds of a synthetic corpus."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reference_models import registry
from reference_models.data.mmsa import load_mmsa
from reference_models.data.synthetic import synthesize
from reference_models.running import folders, records, runs
from reference_models.running.parts import build
from reference_models.tables.report import SYNTHETIC, write_report
from reference_models.tables.statistics import text_table

WITHOUT = {"intra_weight": 0.0, "inter_weight": 0.0, "semi_weight": 0.0}
MODELS = {"HyCon-v2": {}, "without contrast": WITHOUT}
SEEDS = 3
SHOWN = ("mae", "corr", "acc2_nn_n")  # what is said of the differences; the page has the others


def demo(folder: Path, *, seed: int, fast: bool, say: Callable[[str], None]) -> Path:
    """Train both with three seeds, or reuse the runs of an earlier call, and write the page.

    Args:
        folder: for the corpus, a run folder for each run, and ``index.html``.
        seed: of the corpus, and the first one of the runs.
        fast: a tiny corpus and two epochs, for a quick check.
        say: called with lines for the reader.

    Returns:
        The page.

    Raises:
        ValueError: a run folder that holds a run with other settings, or other files.
    """
    kind = "-fast" if fast else ""
    corpus_file = folder / f"synthetic-seed{seed}{kind}.pkl"
    if not corpus_file.is_file():
        synthesize(corpus_file, sizes=(64, 24, 32) if fast else (400, 100, 400), seed=seed)
    corpus = load_mmsa(corpus_file)
    paper = registry.find("hycon-v2")
    training = replace(
        paper.training,
        learning_rate=1e-3,
        head_learning_rate=1e-3,
        batch_size=32,
        epochs=2 if fast else 18,
        patience=0,
        schedule="linear",
        warmup_ratio=0.05,
        max_grad_norm=1.0,
    )
    places: dict[str, list[Path]] = {name: [] for name in MODELS}
    for own_seed in range(seed, seed + SEEDS):
        for name, changes in MODELS.items():
            place = folder / f"{name.lower().replace(' ', '-')}-seed{own_seed}{kind}"
            config = replace(paper.config, **changes)
            parts = build("hycon-v2", config, training, corpus, seed=own_seed)
            if folders.state(place) == "finished":
                folders.check_same(place, parts.config)
                folders.remove_leftovers(place)
                say(f"{name}: trained before, in {place} (remove that folder to train again)")
            else:
                say(f"{name}: training in {place}")
                runs.train(parts, corpus, place)
            places[name].append(place)
    page = folder / "index.html"
    found = write_report(
        places,
        page,
        title="HyCon-v2 with and without its contrast, on a synthetic corpus",
        lead=(
            "HyCon-v2 reads a sentence, its sound and its picture and predicts a sentiment score."
            " Beside it stands the same network, from the same seeds, trained on the prediction"
            " error alone. The curves of a validation split can show one thing and the test split"
            " another: what these runs can tell stands in the last column of the differences."
        ),
        note=SYNTHETIC,
        against="without contrast",
        go_on=_steps(corpus_file, places["HyCon-v2"][0]),
    )
    rows = {
        f"{name}, seed {place_seed}": records.run_metrics(place)["test"]
        for name, some in places.items()
        for place_seed, place in enumerate(some, start=seed)
    }
    told = "\n".join(found.sentences("HyCon-v2", SHOWN))
    say(f"\n{text_table(rows)}\n\n{told}\n\n{SYNTHETIC}")
    return page


def _steps(corpus_file: Path, run: Path) -> list[tuple[str, str]]:
    call = "python -m reference_models"
    return [
        ("the models, and every key that --set takes", f"{call} list"),
        ("what is in a data file of your own", f"{call} data inspect FILE"),
        (
            "train on it, with a pretrained text encoder",
            f"{call} train hycon-v2 --data FILE --text-encoder bert-base-uncased",
        ),
        (
            "one weight changed, on the corpus of this page",
            f"{call} train hycon-v2 --data {corpus_file} --epochs 10 --set learning_rate=1e-3"
            " --set semi_weight=0.1",
        ),
        (
            "the table of a run again, on its validation split",
            f"{call} evaluate {run} --split valid",
        ),
    ]
