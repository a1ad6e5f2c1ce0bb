"""The studies of `instar reproduce`: where each is, and its configuration at a scale or from a file.

What takes long to import is imported in the functions: `instar --help` reads the names here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from instar.errors import UsageError
from instar.naming import import_object, unknown_name

CUSTOM = "custom"
"""The scale of a configuration that was changed."""


class Reproduction(NamedTuple):
    """A study of the papers."""

    what: str
    study: str
    """`MODULE:STUDY`"""
    config_for: str
    """`MODULE:FUNCTION`, of a scale, or of a scale and a data set"""
    data: str = ""
    """the data set that it is run on by default"""
    more_data: str = ""
    """which data sets there are"""

    def at(self, scale: str, data: str) -> Any:
        """The configuration at a scale.

        Raises:
            UsageError: there is no such scale, or none for this data.
        """
        config_for = import_object(self.config_for)
        return config_for(scale, data) if self.data else config_for(scale)


REPRODUCTIONS = {
    "mnist": Reproduction(
        "Hinton et al. 2015, section 3: teacher, students, transfer sets, temperatures, fractions of the data.",
        "instar.recipes.distill.mnist:STUDY",
        "instar.recipes.distill.mnist:config_for",
        "mnist",
        "mnist, or another data set with the classes 3, 7 and 8: digits",
    ),
    "transfer": Reproduction(
        "Yosinski et al. 2014: a convnet and a residual net at every cut, unlike halves, few images.",
        "instar.recipes.transfer.reproduction:STUDY",
        "instar.recipes.transfer.reproduction:config_for",
        "cifar100",
        "cifar100, or digits for a try at the scale tiny",
    ),
    "advise": Reproduction(
        "The advisor judged: its advice against every treatment fitted to the end, on pairs of tasks.",
        "instar.recipes.advise.reproduction:STUDY",
        "instar.recipes.advise.reproduction_plan:config_for",
    ),
    "transfer-or-distil": Reproduction(
        "One student on few examples: from scratch, transferred, distilled, both.",
        "instar.recipes.transfer.comparison:STUDY",
        "instar.recipes.transfer.comparison:config_for",
    ),
    "texts": Reproduction(
        "Hinton et al. 2015, sections 3 and 6, on texts: unlike models together, into a tenth of their weights.",
        "instar.recipes.texts.recipe:STUDY",
        "instar.recipes.texts.plan:config_for",
        "clinc150",
        "clinc150 (150 intents and what is of none), sst2 (two classes), or csv:FILE and its like",
    ),
    "tokens": Reproduction(
        "A language model into a tenth of its weights: all classes, the top k read three ways, labels alone.",
        "instar.recipes.tokens.recipe:STUDY",
        "instar.recipes.tokens.plan:config_for",
    ),
    "tables": Reproduction(
        "Gradient boosting, a forest and both into one small network: out of fold, in sample, sampled rows.",
        "instar.recipes.tables.recipe:STUDY",
        "instar.recipes.tables.plan:config_for",
        "digits",
        "csv:FILE with a column class, or digits for a try at the scale tiny",
    ),
    "specialists": Reproduction(
        "Hinton et al. 2015, section 5: specialists for confused classes, all controls, one network distilled.",
        "instar.recipes.specialists.recipe:STUDY",
        "instar.recipes.specialists.settings:config_for",
        "cifar100",
        "cifar100 (100 classes), omniglot (1,623) or digits",
    ),
    "speech": Reproduction(
        "Hinton et al. 2015, sections 4 and 6: an ensemble for speech distilled, and 3 % of the data.",
        "instar.recipes.speech.reproduction:STUDY",
        "instar.recipes.speech.reproduction_plan:config_for",
        "fsdd",
        "fsdd, or kaldi:FOLDER, a data directory of at least three speakers",
    ),
}


def reproduction(name: str) -> Reproduction:
    """A study by its name.

    Raises:
        UsageError: there is no such study.
    """
    if name not in REPRODUCTIONS:
        raise unknown_name("study", name, REPRODUCTIONS)
    return REPRODUCTIONS[name]


def reproduction_config(
    name: str, scale: str | None, data: str | None, file: Path | None, typed: Mapping[str, Any]
) -> Any:
    """The configuration of a study.

    Args:
        name: of the study.
        scale: `tiny`, `small` or `full`; `small` by default.
        data: the data set; by default the study's.
        file: a TOML file in place of scale and data.
        typed: nested settings over those of the scale or the file.

    Raises:
        UsageError: no such study, scale, data set or setting; or a file beside a scale or data.
    """
    from instar.recipes.reading_settings import checked, merge, read_config_file

    study = reproduction(name)
    if file is None:
        content = study.at(scale or "small", data or study.data).model_dump()
    elif scale or data:
        raise UsageError(f"--config {file} has all settings of the study: leave out --scale and --data")
    else:
        content = read_config_file(file)
    config = checked(get_type_hints(import_object(study.config_for))["return"], merge(content, typed))
    return (
        config if _at_its_scale(study, config) in (None, config) else config.model_copy(update={"scale": CUSTOM})
    )


def _at_its_scale(study: Reproduction, config: Any) -> Any | None:
    """The configuration of the scale that a configuration names; None if it names a scale of the user's own."""
    try:
        return study.at(config.scale, config.data.name if study.data else "")
    except UsageError:
        return None


def repeat_command(name: str, config: Any, path: Path) -> str:
    """The command that repeats a study: at its scale, or with the settings of a run directory if they differ."""
    study = reproduction(name)
    settings = f"--scale {config.scale}" + (f" --data {config.data.name}" if study.data else "")
    if _at_its_scale(study, config) != config:
        settings = f"--config {path / 'config.toml'}"
    return f"instar reproduce {name} {settings} --run-dir runs/again"


def as_toml(config: Any) -> str:
    """A configuration as TOML, without the settings that have their default."""
    import tomli_w

    from instar.identity import without_none

    return tomli_w.dumps(without_none(config.model_dump(exclude_defaults=True)))
