"""The command for a machine with a GPU, as far as one without can tell."""

import pytest
import torch

from tests import gpu


@pytest.fixture
def ran(monkeypatch):
    """The commands that would be run, which all end well, on a machine with a GPU."""
    commands = []

    def run_for(seconds, command, log=None):
        commands.append((seconds, command))
        if log is not None:
            log.write_text("....F\nFAILED tests/some.py::test_it - assert\n1 failed, 4 passed\n")
        return 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "run_for", run_for)
    monkeypatch.setattr(gpu, "missing", list)
    return commands


def test_without_a_gpu_nothing_is_run_and_it_is_no_success(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert capsys.readouterr().out == "No CUDA device is here: NOTHING was run.\n"


def test_tests_come_first_then_figures_within_8_minutes(ran, tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path), "--resume"]) == 0
    (tests, first), (figures, second) = ran
    assert first[:2] == ["-m", "pytest"]
    assert first[-3:] == ["-n", str(gpu.WORKERS), gpu.TESTS]
    assert (gpu.ROOT / gpu.TESTS).is_dir()
    assert second[:2] == ["-m", "tests.benchmarks.gpu"]
    assert "--resume" in second
    assert str(tmp_path) in second
    assert second[second.index("--seconds") + 1] == f"{gpu.BENCHMARK_SECONDS:g}"
    assert tests + figures + 30 <= 8 * 60
    printed = capsys.readouterr().out
    assert "FAILED tests/some.py::test_it" in printed
    assert "1 failed, 4 passed" in printed


def test_parts_can_be_left_out(ran, tmp_path):
    gpu.main(["--out", str(tmp_path), "--test-seconds", "0", "--seconds", "5"])
    assert [command[1] for _, command in ran] == ["tests.benchmarks.gpu"]


def test_what_the_tests_need_is_told_and_no_success(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "missing", lambda: ["hypothesis"])
    assert gpu.main(["--out", str(tmp_path)]) == 1
    assert [command[1] for _, command in ran] == ["tests.benchmarks.gpu"]


def test_without_xdist_there_is_one_process(ran, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "missing", lambda: ["xdist"])
    gpu.main(["--out", str(tmp_path), "--seconds", "0"])
    ((_, command),) = ran
    assert "-n" not in command


def test_what_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.setattr(gpu, "NEEDED", {"torch": "all", "no_such_module": "NOT compared with"})
    assert gpu.missing() == ["no_such_module"]
    assert capsys.readouterr().out == "MISSING: no_such_module: NOT compared with\n"


def test_a_command_has_its_seconds_and_its_status(tmp_path, capsys):
    log = tmp_path / "log"
    assert gpu.run_for(60, ["-c", "print('hello'); raise SystemExit(3)"], log) == 3
    assert log.read_text() == "hello\n"
    assert gpu.run_for(0.5, ["-c", "import time; print('x'); time.sleep(60)"], log) == 124
    told = capsys.readouterr().out
    assert "ended with 3" in told
    assert "CUT after its 0 s" in told


def test_the_benchmark_takes_the_options_that_it_is_given(ran, tmp_path):
    from tests.benchmarks.gpu import arguments

    gpu.main(["--out", str(tmp_path), "--resume", "--rounds", "3"])
    options = arguments(ran[-1][1][2:])
    assert (options.resume, options.rounds) == (True, 3)
    assert options.seconds == gpu.BENCHMARK_SECONDS
    assert options.out == tmp_path
