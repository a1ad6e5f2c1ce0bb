"""From columns to what a network sees: a preparation of each kind of data, fitted on the training rows alone.

A kind is a module here, of its name, with `fit(records, options)` and `read(record)`; each gives a `Preparation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from instar.data.records.roles import Roles
from instar.errors import RunError, UsageError
from instar.naming import import_object
from instar.structures import Inputs

if TYPE_CHECKING:
    import pyarrow as pa

    from instar.data.records.reading import Records

KINDS = {"text": "text", "image": "picture", "audio": "sound", "features": "table"}
"""The kind of data by the role of its columns; of several roles the first here decides."""


class Preparation(Protocol):
    """What rows go through before a network sees them; fitted on the training rows alone."""

    kind: str
    """`text`, `table`, `sound`, `picture`, `tokens` or `words`"""

    def inputs(self, table: "pa.Table", roles: Roles) -> Inputs:
        """What `InMemoryDataset` takes, of all rows of a table; it needs no column but those of `roles.inputs`.

        Raises:
            DataError: a row that cannot be used, named by `records.place_of`.
        """

    def record(self) -> dict[str, Any]:
        """Itself as JSON, with its `kind`: all that another machine needs."""

    def in_words(self) -> str:
        """What it does, in one line."""


@dataclass(frozen=True)
class KindOptions:
    """The options of all kinds; each kind reads its own."""

    image_size: int | None = None
    colour: str | None = None
    clip_seconds: float | None = None
    """of sounds; by default as long as 95 % of the training clips are"""
    sample_rate: int | None = None
    """of sounds, Hz; by default the commonest of the training clips"""
    feature_extractor: str | None = None
    """of sounds: the folder of the one that makes the examples, in place of filterbanks"""
    memory_budget_bytes: int = 2 * 2**30
    progress: bool = True
    tokenizer: str | None = None
    max_length: int | None = None
    categories: tuple[str, ...] = ()
    """the columns of a table whose numbers are categories"""


def kind_of(roles: Roles) -> str:
    """The kind of data that roles tell.

    Raises:
        UsageError: no column is an input.

    Example:
        >>> kind_of(Roles(text=("question",))), kind_of(Roles(features=("age", "height")))
        ('text', 'table')
    """
    for role, kind in KINDS.items():
        if getattr(roles, role):
            return kind
    raise UsageError("no column is an input: name them with text, image, audio or features")


def fit_preparation(records: "Records", options: KindOptions) -> Preparation:
    """The preparation of the kind that the roles tell, fitted on the training rows.

    Raises:
        UsageError: options of pictures for something else.
    """
    kind = kind_of(records.roles)
    if kind != "picture" and (options.image_size, options.colour) != (None, None):
        raise UsageError(f"image_size and colour are for pictures; {records.source} is {kind}")
    preparation: Preparation = import_object(f"instar.data.kinds.{kind}:fit")(records, options)
    return preparation


def read_preparation(record: Mapping[str, Any]) -> Preparation:
    """What `record` wrote, on another machine.

    Raises:
        RunError: it is of a kind that this instar does not know.
    """
    kind = record.get("kind")
    if kind not in (known := (*KINDS.values(), "tokens", "words")):
        raise RunError(f"data of kind {kind!r}: this instar knows {', '.join(known)}; update it")
    preparation: Preparation = import_object(f"instar.data.kinds.{kind}:read")(record)
    return preparation
