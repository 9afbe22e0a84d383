"""The device and the processes of a run."""

import torch

from reference_models.running.devices import device, ranks


def test_the_device_is_the_accelerator_or_the_cpu():
    assert device() == torch.device(torch.accelerator.current_accelerator() or "cpu")


def test_without_a_launcher_there_is_one_process():
    assert (ranks().num_processes, ranks().is_main_process) == (1, True)
    assert ranks().device.type == device().type
