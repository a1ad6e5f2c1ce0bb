"""The options of the commands, in tables: by panel of the help, a flag and the key of the setting that it sets."""

from instar.naming import unknown_name
from instar.recipes.options import Command
from instar.recipes.settings import DataSettings, Settings

FIRST = "Options"
"""The panel of the options that people use first."""

COLUMNS = {
    f"--{role}": f"data.{role}"
    for role in ("label", "text", "image", "audio", "features", "categories", "group", "key", "part")
}
"""Which columns of a table are what."""

DATA = {
    **COLUMNS,
    "--classes": "data.classes",
    "--tokenizer": "data.tokenizer",
    "--max-length": "data.max_length",
    "--split-by": "data.split_by",
    "--separator": "data.separator",
    "--image-size": "data.image_size",
    "--colour": "data.colour",
    "--normalise": "data.normalise",
    "--clip-seconds": "data.clip_seconds",
    "--sample-rate": "data.sample_rate",
    "--feature-extractor": "data.feature_extractor",
    "--data-fraction": "data.fraction",
    "--validation-fraction": "data.validation_fraction",
    "--split-seed": "data.split_seed",
    "--view-seed": "data.view_seed",
}
"""The data options of every command that reads data."""

SOURCE = {
    "--source": "source.name",
    "--source-classes": "source.classes",
    "--source-image-size": "source.image_size",
    "--source-colour": "source.colour",
    "--source-normalise": "source.normalise",
    "--source-fraction": "source.fraction",
}


class DataOnly(Settings):
    """The settings of a command that reads data and runs no study."""

    data: DataSettings = DataSettings()


DISTILL = Command(
    settings="instar.recipes.distill.settings:DistillConfig",
    study="instar.recipes.distill.recipe:STUDY",
    variants={"for mnist": {"data": {"name": "mnist"}}},
    table={
        FIRST: {
            "--data": "data.name",
            "--teacher": "teacher.network",
            "--student": "student.network",
            "--temperature": "temperature",
            "--hard-weight": "hard_weight",
            "--loss": "loss",
            "--epochs": "student.epochs",
            "--teacher-epochs": "teacher.epochs",
            "--learning-rate": "student.learning_rate",
            "--views": "student.views",
            "--seeds": "seeds",
            "--same-cost": "same_cost",
            "--int8": "int8",
            "--narrower": "narrower",
            "--quick": "quick",
        },
        "Teacher": {
            "--teachers": "teachers",
            "--teacher-learning-rate": "teacher.learning_rate",
            "--ensemble-mean": "ensemble_mean",
            "--teacher-views": "teacher.views",
            "--teacher-pretrained": "teacher.pretrained",
            "--folds": "folds",
            "--targets": "targets",
            "--reading": "reading",
        },
        "Soft targets": {
            "--soft-weight": "soft_weight",
            "--label-weight": "label_weight",
            "--hint-layers": "hint_layers",
            "--tuning-seeds": "tuning_seeds",
        },
        "Transfer set": {
            "--drop-classes": "transfer.drop_classes",
            "--keep-classes": "transfer.keep_classes",
            "--fraction": "transfer.fraction",
            "--labelled": "transfer.labelled",
            "--unlabelled": "transfer.folder",
            "--sampled-rows": "transfer.sampled_rows",
            "--fit-bias": "fit_bias",
            "--bias-per-class": "bias_per_class",
        },
        "Data": DATA,
        "Run": {"--seed": "seed", "--precision": "student.precision teacher.precision"},
    },
)

TASKS = {"causal-lm": "LANGUAGE_MODELS", "token-classification": "WORDS"}
"""What `instar distill --task` distils, where it is no classifier: the name of its command here."""

_OF_TOKENS = {
    FIRST: {
        "--data": "data.name",
        "--teacher": "teacher.network",
        "--student": "student.network",
        "--temperature": "temperature",
        "--hard-weight": "hard_weight",
        "--epochs": "student.epochs",
        "--teacher-epochs": "teacher.epochs",
        "--learning-rate": "student.learning_rate",
        "--teacher-learning-rate": "teacher.learning_rate",
        "--soft-weight": "soft_weight",
        "--seeds": "seeds",
    },
    "Data": DATA,
    "Run": {"--seed": "seed", "--precision": "student.precision teacher.precision"},
}

LANGUAGE_MODELS = Command(
    settings="instar.recipes.tokens.plan:TokensConfig",
    study="instar.recipes.tokens.recipe:STUDY",
    table=_OF_TOKENS,
)

WORDS = Command(
    settings="instar.recipes.tokens.tagging:TagsConfig",
    study="instar.recipes.tokens.tagging:STUDY",
    table=_OF_TOKENS,
)

TRANSFER = Command(
    settings="instar.recipes.transfer.settings:TransferConfig",
    study="instar.recipes.transfer.recipe:STUDY",
    variants={"for cifar100": {"data": {"name": "cifar100"}}},
    table={
        FIRST: {
            "--data": "data.name",
            "--network": "network.network",
            "--treatments": "treatments",
            "--cuts": "cuts",
            "--epochs": "network.epochs",
            "--learning-rate": "network.learning_rate",
            "--views": "network.views",
            "--splits": "splits",
        },
        "Tasks A and B": {
            "--halves": "halves.how",
            "--a": "halves.a",
            "--b": "halves.b",
            "--parents": "halves.parents",
            "--classes-per-half": "halves.classes_per_half",
            **SOURCE,
            "--targets": "targets",
        },
        "Layers": {"--layers": "layers"},
        "Copied layers": {
            "--frozen-dropout": "copied.frozen_dropout",
            "--frozen-norm": "copied.frozen_norm",
        },
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

ADVISE = Command(
    settings="instar.recipes.advise.settings:AdviseConfig",
    study="instar.recipes.advise.recipe:STUDY",
    variants={"with --data": {"data": {"name": "mnist"}, "source": {"name": "digits"}}},
    table={
        FIRST: {
            "--network": "network",
            "--data": "data.name",
            "--examples": "examples_per_class",
            "--epochs": "fit.epochs",
            "--learning-rate": "fit.learning_rate",
            "--views": "fit.views",
            "--cuts": "num_cuts",
            "--seeds": "seeds",
            "--controls": "controls",
        },
        "Data that a network without weights is trained on first": SOURCE,
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

SPECIALISTS = Command(
    settings="instar.recipes.specialists.settings:SpecialistsConfig",
    study="instar.recipes.specialists.recipe:STUDY",
    variants={"with --distill": {"distill": {}}},
    table={
        FIRST: {
            "--data": "data.name",
            "--network": "generalist.network",
            "--sets": "sets.num_sets",
            "--classes-per-set": "sets.classes_per_set",
            "--epochs": "generalist.epochs",
            "--learning-rate": "generalist.learning_rate",
            "--views": "generalist.views",
            "--seeds": "seeds",
            "--distill": "distill",
        },
        "Specialists": {
            "--method": "sets.method",
            "--top-n": "top_n",
            "--specialist-epochs": "specialist.epochs",
            "--trainable-layers": "specialist.trainable_layers",
            "--controls": "controls",
            "--mixture": "mixture",
            "--temperature": "distill.temperature",
        },
        "Data": DATA,
        "Run": {"--seed": "seed"},
    },
)

SPEECH = Command(
    settings="instar.recipes.speech.plan:RecogniserConfig",
    study="instar.recipes.speech.recogniser:STUDY",
    table={
        FIRST: {
            "--network": "network.network",
            "--epochs": "network.epochs",
            "--learning-rate": "network.learning_rate",
            "--lexicon": "models.lexicon",
            "--grammar": "grammar",
            "--teacher": "teacher",
            "--temperature": "temperature",
        },
        "Recordings": {
            "--test": "data.test",
            "--validation": "data.validation",
            "--test-speakers": "data.test_speakers",
            "--validation-speakers": "data.validation_speakers",
            "--fraction": "data.fraction",
        },
        "Features": {"--normalisation": "features.normalisation"},
        "Run": {"--seed": "seed"},
    },
)

DESCRIBED = Command(settings="instar.recipes.commands:DataOnly", table={"Data": DATA})
STORE = Command(settings="instar.recipes.commands:DataOnly", table={"Data": {"--data": "data.name", **DATA}})
IMPORTED = Command(
    settings="instar.recipes.commands:DataOnly",
    table={
        "Data": {"--data": "data.name"}
        | {
            ("--data-key" if flag == "--key" else flag): key for flag, key in DATA.items()
        }  # the file has a key too
    },
)


def command_of_task(task: str) -> Command:
    """The command that distils another kind of networks than classifiers.

    Raises:
        UsageError: there is no such task.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    found: Command = globals()[TASKS[task]]
    return found
