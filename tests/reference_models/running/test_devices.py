"""The device and the processes of a run."""

import torch

from reference_models.running.devices import device, ranks


def test_the_device_is_the_accelerator_or_the_cpu():
    if torch.accelerator.is_available():
        assert device() == torch.accelerator.current_accelerator()
    else:
        assert device().type == "cpu"


def test_a_build_for_what_the_machine_does_not_have_runs_on_the_cpu(monkeypatch):
    def current_accelerator(check_available=False):
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
    assert device().type == "cpu"


def test_without_a_launcher_there_is_one_process():
    assert (ranks().num_processes, ranks().is_main_process) == (1, True)
    assert ranks().device.type == device().type
