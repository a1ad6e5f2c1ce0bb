"""`fit`: what is checked and prepared before the training loop (`training_loop.py`) runs."""

import torch
from torch import nn

from instar.arguments import require_network
from instar.data import as_dataset
from instar.errors import RunError, UsageError
from instar.fit_options import Data, FitOptions, FitResult, options_by_name
from instar.fit_processes import let_forks_compute, own_device, ranks
from instar.guards import check_targets, trained_parameters, warn_of_old_statistics
from instar.networks import channels_last_, extra_state_of, materialise_, training_, uncompiled
from instar.optimisation import decide_precision, learning_rate_factor, make_optimiser, parameter_factors
from instar.teacher_checks import check_soft_targets, require_targets
from instar.training_loop import Loop

__all__ = ["FitResult", "fit"]


@options_by_name(FitOptions)
def fit(network: nn.Module, data: Data, options: FitOptions) -> FitResult:
    """Fit a network, in place: total = soft_weight T^2 H(p_T, q_T) + hard_weight H(label, q_1).

    Inside an initialised `torch.distributed` group each process takes its share of every batch. Ctrl-C ends a fit
    after the current step, with a checkpoint. So does SIGTERM where a Python handler is installed; without one it
    ends the process at once.

    Args:
        network: its parameters that require a gradient are trained; the others get neither weight decay nor
            optimiser state.
        data: training examples, a `Dataset`, (inputs, labels) or what else `as_dataset` takes.
        options: by name, each described in `FitOptions`: `epochs` is required.

    Returns:
        The network, the metrics of each epoch, the number of steps, and `failed_to_learn`: why it is no better
        than guessing on what it learned from, where it is not.

    Raises:
        UsageError: an option is unknown, out of its range, or does not fit the data.
        TrainingError: a check of the first step fails, or the loss is no longer finite.
        RunError: the run is done, or its checkpoint is damaged.
        DataError: its checkpoint is of another network.

    Example:
        >>> inputs = torch.tensor([[0.0], [1.0]]).repeat(8, 1); labels = torch.tensor([0, 1]).repeat(8)
        >>> result = fit(nn.Sequential(nn.Linear(1, 2)), (inputs, labels), epochs=20, learning_rate=1.0)
        >>> result.metrics[-1]["train_errors"]
        0
    """
    require_network("the network", network)
    if options.targets is not None:
        require_targets("targets", options.targets)
    let_forks_compute()
    _, num_processes = ranks()
    if options.batch_size < num_processes:
        raise UsageError(
            f"batch_size is {options.batch_size}, expected an example for each of {num_processes} processes"
        )
    factor = learning_rate_factor(options.schedule, options.epochs, options.warmup_epochs)
    if options.run is not None and options.run.is_done:
        raise RunError(f"{options.run.path} is done: read its weights and result, or fit in another run directory")
    device = own_device(torch.device(options.device))
    data = as_dataset(data).to(device)
    example_inputs = data.gather(data.ids[:2], 0)
    materialise_(network.to(device), example_inputs)
    parameters = trained_parameters(network)
    training_(network)
    warn_of_old_statistics(network, options.epochs * -(-len(data) // options.batch_size))
    channels_last_(network, example_inputs)
    if options.auxiliary is not None:
        parameters += options.auxiliary.to(device).parameters()
    check_targets(network, data, options.targets)
    if options.run is not None:
        extra_state_of(network.state_dict())  # raises now what would be raised at the first checkpoint
    loop = Loop(
        called=network,
        network=uncompiled(network),
        data=data,
        validation=None if options.validation is None else as_dataset(options.validation).to(device),
        options=options,
        optimiser=make_optimiser(
            options.optimiser,
            parameters,
            options.learning_rate,
            options.momentum,
            options.weight_decay,
            parameter_factors(network, options.learning_rate_factors),
        ),
        factor=factor,
        precision=decide_precision(options.precision, network, device),
        device=device,
    )
    if options.targets is not None and loop.soft_weight:
        check_soft_targets(options.targets, data, batch_size=options.batch_size)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout reseeds the global state at each step
        return loop.run_to_the_end()
