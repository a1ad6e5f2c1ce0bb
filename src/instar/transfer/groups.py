"""Which classes belong together, for data sets whose class names do not say so."""

MAN_MADE = (
    "food containers",
    "household electrical devices",
    "household furniture",
    "large man-made outdoor things",
    "vehicles 1",
    "vehicles 2",
)
LIVING = (
    "aquatic mammals",
    "fish",
    "flowers",
    "fruit and vegetables",
    "insects",
    "large carnivores",
    "large omnivores and herbivores",
    "medium-sized mammals",
    "non-insect invertebrates",
    "people",
    "reptiles",
    "small mammals",
    "trees",
)

_CIFAR100_CHILDREN = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
CIFAR100_PARENTS = {child: parent for parent, children in _CIFAR100_CHILDREN.items() for child in children.split()}
"""The parent of each CIFAR-100 class, as published with the data set (Krizhevsky 2009)."""


def imagenet_groups() -> tuple[list[int], list[int]]:
    """The man-made and the natural classes of ILSVRC2012, numbered from 0.

    Natural classes include people, fruit and vegetables; cooked dishes and drinks are man-made.

    Example:
        >>> [len(group) for group in imagenet_groups()]
        [551, 449]

    References:
        Yosinski et al. 2014, supplement; the lists of their repository.
    """
    man_made = [*range(398, 936), *range(959, 970), 971, 999]
    return man_made, [number for number in range(1000) if number not in set(man_made)]
