"""What test_survival.py runs in a process of its own, which forks children and kills them."""

import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from reference_models import registry
from reference_models.__main__ import main
from reference_models.data.loading import load_corpus
from reference_models.data.synthetic import synthesize
from reference_models.running import folders, runs
from reference_models.running.parts import build
from reference_models.training_config import TrainingConfig

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
SMALL = {
    "hidden_size": 8,
    "heads": 2,
    "audio_layers": 1,
    "vision_layers": 1,
    "teacher_audio_layers": 1,
    "teacher_vision_layers": 1,
    "teacher_epochs": 1,
}


def train(file: Path, folder: Path) -> None:
    """Of the paper with the most stages: two teachers, and then the network."""
    config = replace(registry.find("mfon").config, **SMALL)
    training = TrainingConfig(
        learning_rate=1e-3, batch_size=16, epochs=2, patience=2, max_text_length=12
    )
    corpus = load_corpus(file)
    runs.train(build("mfon", config, training, corpus, seed=1), corpus, folder)


def child(work: Callable[[], None]) -> int:
    """Do it in a forked process; minus the signal that ended it, or its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, folder: Path, work: Callable[[], None]) -> Callable[[], None]:
    """The same, killed outright before its n-th change of a file in the folder; 0 counts them."""
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"
        if (writes or event in CHANGES) and str(folder) in str(arguments[0]):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)
        work()
        if number == 0:
            (folder.parent / "changes").write_text(str(seen))

    return watched


def same(one: Path, other: Path) -> None:
    for name in ("metrics.json", "predictions.csv", "history.csv", "model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}


def kills(root: Path, points: int) -> None:
    """Kill a run at points spread over all of its changes, go on, and compare the ends."""
    root.mkdir()
    file = root / "corpus.pkl"
    synthesize(file, sizes=(32, 10, 10), seed=1)
    whole = root / "whole"
    assert child(killed_at(0, whole, lambda: train(file, whole))) == 0
    total = int((root / "changes").read_text())
    assert total > 30
    chosen = sorted({1 + round(i * (total - 1) / (points - 1)) for i in range(points)})
    for number in chosen:
        cut = root / f"cut{number}"
        code = child(killed_at(number, cut, lambda cut=cut: train(file, cut)))
        assert code == -signal.SIGKILL, (number, code)
        if not (cut / "metrics.json").is_file():
            assert child(lambda cut=cut: train(file, cut)) == 0, number
        else:  # killed in the clean-up, which the next start completes
            with suppress(ValueError):
                folders.check_free(cut)
        same(whole, cut)
    (root / "kills").write_text(f"{len(chosen)} of {total}")


def limits(root: Path) -> None:
    """A disk that takes no more than so much of a file."""
    root.mkdir()
    file = root / "corpus.pkl"
    synthesize(file, sizes=(32, 10, 10), seed=1)
    whole, cut = root / "whole", root / "cut"
    settings = ["--epochs", "2", "--set", "hidden_size=10", "heads=2", "layers=1"]
    call = ["train", "hycon", "--data", str(file), *settings, "--out"]
    for size in (100, 2_000, 100_000, 2_000_000):

        def short(size: int = size) -> None:
            usual = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
            sys.stderr = io.StringIO()
            code = main([*call, str(cut)])
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
            (root / f"said{size}").write_text(sys.stderr.getvalue())
            os._exit(code)

        assert child(short) == 2, size
        said = (root / f"said{size}").read_text().splitlines()[-1]
        assert said.startswith(f"python -m reference_models: {cut}"), said
        assert "could not be written" in said, said
    assert child(lambda: os._exit(main([*call, str(whole)]))) == 0
    assert child(lambda: os._exit(main([*call, str(cut)]))) == 0
    same(whole, cut)


if __name__ == "__main__":
    kills(Path(sys.argv[1]) / "killed", int(sys.argv[2]))
    limits(Path(sys.argv[1]) / "limits")
