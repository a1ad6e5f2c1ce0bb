"""The processes that share a fit, the device of each, and what they draw dropout from."""

import functools
import os
from typing import Any

import torch
from torch import nn


@functools.cache
def let_forks_compute() -> None:
    """Let processes that are forked from now on compute with one thread: OpenMP's threads do not survive a fork.

    With more, a process that the user forks after a fit would wait for ever in its own first fit.
    """
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def ranks() -> tuple[int, int]:
    """Rank of this process, and number of processes that share the fit."""
    group: Any = torch.distributed  # empty in some builds of torch
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1


def own_device(device: torch.device) -> torch.device:
    """The device of this process: with several processes on a machine with GPUs, each has its own."""
    rank, world = ranks()
    if device == torch.device("cuda") and world > 1:  # no index given
        return torch.device("cuda", rank % torch.cuda.device_count())
    return device


def generators(device: torch.device) -> list[torch.Generator]:
    """The generators that dropout uses; `torch.manual_seed`, which seeds all devices, takes 0.2 ms."""
    found = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        found.append(torch.cuda.default_generators[index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())
    return found


def distributed(network: nn.Module) -> nn.Module:
    """The network, whose gradients are averaged over the processes."""
    return nn.parallel.DistributedDataParallel(network)
