"""What the fits of a study cost, in multiplications; a backward pass counts as two forward passes."""

from collections.abc import Sequence
from dataclasses import dataclass

from instar.data import Splits
from instar.deploy import multiplications_at
from instar.errors import UsageError
from instar.naming import is_of_library
from instar.networks import build_network, freeze_, layers_of
from instar.recipes.loading import try_network
from instar.recipes.specialists.settings import SpecialistsConfig
from instar.specialists import ClassSet
from instar.transfer import cacheable_cut


@dataclass(frozen=True)
class Costs:
    """Everything that costs depend on, measured once for a plan."""

    config: SpecialistsConfig
    per_layer: tuple[int, ...]
    """multiplications for one example up to the end of each layer of the generalist"""
    mixture: int
    """multiplications for one example in the mixture of experts; 0 without one"""
    num_train: int
    """training examples"""
    class_counts: tuple[int, ...]
    """training examples of each class"""
    num_frozen: int
    """first layers of a specialist that are not trained"""
    caches_features: bool
    """whether the frozen layers compute each example once"""

    @property
    def network(self) -> int:
        """One example through the generalist."""
        return self.per_layer[-1]

    @property
    def epoch(self) -> int:
        """One epoch of the generalist."""
        return 3 * self.network * self.num_train

    @property
    def generalist(self) -> int:
        """The fit of a generalist."""
        return self.config.generalist.epochs * self.epoch

    def num_special(self, class_set: ClassSet) -> int:
        """Number of training examples of a class set."""
        return sum(self.class_counts[number] for number in class_set.classes)

    def specialists(self, class_sets: Sequence[ClassSet], *, from_soft_targets: bool = False) -> list[int]:
        """The fit of each specialist.

        Frozen layers compute each example once if their features can be cached. A specialist that learns from the
        generalist's soft targets needs its predictions, once per example without views, else for every example
        shown.
        """
        has_views = self.config.generalist.views != "none"
        frozen = self.per_layer[self.num_frozen - 1] if self.num_frozen else 0
        costs = []
        for class_set in class_sets:
            shown = 2 * self.num_special(class_set) * self.config.specialist.epochs
            below = frozen * (self.num_train if self.caches_features else shown)
            targets = self.network * (shown if has_views else self.num_train) if from_soft_targets else 0
            costs.append(3 * (self.network - frozen) * shown + below + targets)
        return costs

    def budget(self, class_sets: Sequence[ClassSet]) -> int:
        """A generalist and its specialists: what each control may cost."""
        return self.generalist + sum(self.specialists(class_sets))


def measure_costs(config: SpecialistsConfig, splits: Splits) -> Costs:
    """The costs of a plan.

    Raises:
        UsageError: more trainable layers than the network has, or multiplications that are not known.
    """
    network = try_network(config.generalist, splits)
    example_inputs = splits.train.gather(splits.train.ids[:2], 0)
    layers = [layer.module for layer in layers_of(network, example_inputs)]
    per_layer = multiplications_at(network, layers, splits.train.example_shape)
    trainable = config.specialist.trainable_layers or len(layers)
    if trainable > len(layers):
        raise UsageError(f"specialist.trainable_layers is {trainable}; the network has {len(layers)} layers")
    num_frozen, caches_features = len(layers) - trainable, False
    if num_frozen and config.generalist.views == "none":
        freeze_(network, num_frozen, example_input=example_inputs)
        caches_features = cacheable_cut(network, num_frozen, splits) is not None
    labels = splits.train.labels(splits.train.ids)
    counts = labels[labels >= 0].bincount(minlength=len(splits.class_names)).tolist()
    mixture, num_train = _mixture_cost(config, splits), len(splits.train)
    return Costs(config, tuple(per_layer), mixture, num_train, tuple(counts), num_frozen, caches_features)


def _mixture_cost(config: SpecialistsConfig, splits: Splits) -> int:
    if "mixture" not in config.controls:
        return 0
    parts = config.mixture.removeprefix("mixture:")
    if (
        parts == config.mixture
        or "mixture:" in parts
        or "python:" in parts
        or any(map(is_of_library, parts.split("/")))
    ):
        raise UsageError(
            f"mixture is {config.mixture!r}, expected mixture:EXPERTS/EXPERT/GATE of built-in networks; or leave "
            "mixture out of controls"
        )
    shape = splits.train.example_shape
    network = build_network(config.mixture, input_shape=shape, num_classes=len(splits.class_names), seed=0)
    return multiplications_at(network, [network], shape)[0]
