"""Where the documentation is, and which card belongs to a part of the code; errors and pages name it alike."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from pathlib import Path

CARDS = {
    "instar.data": "methods/data",
    "instar.data.documents": "methods/language-models",
    "instar.data.given": "methods/inputs",
    "instar.data.columns": "methods/inputs",
    "instar.data.kinds": "methods/data-in-files",
    "instar.data.kinds.heard_sound": "methods/sounds",
    "instar.data.kinds.sound": "methods/sounds",
    "instar.data.kinds.table": "methods/tables",
    "instar.data.kinds.table_columns": "methods/tables",
    "instar.data.kinds.text": "methods/texts",
    "instar.data.kinds.tokens": "methods/language-models",
    "instar.data.prepared": "methods/data-in-files",
    "instar.data.records": "methods/data-in-files",
    "instar.data.records.sound_folder": "methods/sounds",
    "instar.data.tokens": "methods/language-models",
    "instar.data.views": "methods/views",
    "instar.data.unlabelled": "methods/transfer-sets",
    "instar.deploy": "methods/shipping",
    "instar.deploy.loading": "methods/using-a-network",
    "instar.deploy.model": "methods/using-a-network",
    "instar.distillation": "methods/distill",
    "instar.distillation.answer_logits": "methods/teachers",
    "instar.distillation.answers": "methods/teachers",
    "instar.distillation.class_bias": "methods/transfer-sets",
    "instar.distillation.hint_layers": "methods/other-losses",
    "instar.distillation.hints": "methods/other-losses",
    "instar.distillation.member_weights": "methods/teachers",
    "instar.distillation.out_of_fold": "methods/teachers",
    "instar.distillation.store": "methods/soft-target-store",
    "instar.distillation.store_format": "methods/soft-target-store",
    "instar.distillation.store_reading": "methods/soft-target-store",
    "instar.distillation.store_writing": "methods/soft-target-store",
    "instar.guards": "methods/training-and-resume",
    "instar.jobs": "methods/engines",
    "instar.linear_loss": "methods/wide-vocabularies",
    "instar.losses": "methods/soft-targets",
    "instar.networks": "methods/networks",
    "instar.networks.asked": "methods/teachers",
    "instar.networks.cutting": "methods/freezing",
    "instar.networks.estimator_files": "methods/teachers",
    "instar.networks.estimators": "methods/teachers",
    "instar.networks.freezing": "methods/freezing",
    "instar.networks.onnx_file": "methods/teachers",
    "instar.networks.teacher_files": "methods/teachers",
    "instar.recipes.advise": "methods/advisor",
    "instar.recipes.distill": "methods/distill",
    "instar.recipes.distill.mnist_plan": "methods/mnist-study",
    "instar.recipes.shipping.exports": "methods/shipping",
    "instar.recipes.loading": "methods/data",
    "instar.recipes.shipping.predictions": "methods/using-a-network",
    "instar.recipes.specialists": "methods/specialists",
    "instar.recipes.splits": "methods/data",
    "instar.recipes.speech": "methods/speech-recogniser",
    "instar.recipes.targets": "methods/soft-target-store",
    "instar.recipes.tokens": "methods/language-models",
    "instar.recipes.transfer": "methods/transfer-study",
    "instar.runs": "methods/training-and-resume",
    "instar.soft_losses": "methods/other-losses",
    "instar.sparse_targets": "methods/wide-vocabularies",
    "instar.specialists": "methods/specialists",
    "instar.speech": "methods/speech",
    "instar.teacher_checks": "methods/soft-targets",
    "instar.training": "methods/training-and-resume",
    "instar.transfer": "methods/feature-transfer",
}
"""The card of a module, and of the modules below it that have none of their own."""


def card_of(module: str) -> str | None:
    """The card that belongs to a module.

    Example:
        >>> card_of("instar.data.readers.folder"), card_of("instar.errors")
        ('methods/data', None)
    """
    while module not in CARDS and "." in module:
        module = module.rpartition(".")[0]
    return CARDS.get(module)


def card_of_error(error: BaseException) -> str | None:
    """The card of the innermost part of instar that an error went through."""
    found, step = None, error.__traceback__
    while step is not None:
        found = card_of(step.tb_frame.f_globals.get("__name__", "")) or found
        step = step.tb_next
    return found


@cache
def _site() -> str | None:
    """The address of the site: `Documentation` of [project.urls] in pyproject.toml, None where that has none."""
    try:
        urls = metadata("instar").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from a folder of sources
        urls = []
    named = dict(url.split(", ", 1) for url in urls)
    return named["Documentation"].rstrip("/") if "Documentation" in named else None


def address(page: str) -> str:
    """Where a page is read: on the site, or the file in the repository while there is no site.

    Example:
        >>> address("methods/data") in ("docs/methods/data.md", f"{_site()}/methods/data.html")
        True
    """
    site = _site()
    return f"docs/{page}.md" if site is None else f"{site}/{page}.html"


def glossary_text() -> str:
    """The glossary, which lies beside the modules; in a checkout it is still in docs/."""
    packed = files("instar").joinpath("glossary.md")
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
