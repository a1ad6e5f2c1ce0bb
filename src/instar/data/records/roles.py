"""Which column of a table is what."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from instar.errors import UsageError


@dataclass(frozen=True)
class Roles:
    """Which column is what; a column without a role is not read.

    Args:
        label: the class, or a distribution over the classes; of several columns, `ant,bee,wasp`, each holds the
            probability of the class that it is called after.
        text: one column, or two for pairs.
        image: a picture: its bytes, or its path from the file's folder.
        audio: a sound: its bytes, or its path from the file's folder.
        features: numbers and categories.
        group: rows with one value stay in one part: the same patient, speaker, user.
        key: tells examples apart, in place of their content.
        part: says train, validation or test.

    Raises:
        UsageError: an input that is named twice, or is the class or the part; a class that is the group too.

    Example:
        >>> Roles(label="intent", text=("question",)).inputs
        ('question',)
    """

    label: str | None = None
    text: tuple[str, ...] = ()
    image: str | None = None
    audio: str | None = None
    features: tuple[str, ...] = ()
    group: str | None = None
    key: str | None = None
    part: str | None = None

    def __post_init__(self) -> None:
        if len(self.text) > 2:
            raise UsageError(f"text: expected one column, or two for pairs, found {', '.join(self.text)}")
        inputs, words = self.inputs, {"label": "the class", "part": "the part of a row"}
        for column in inputs:
            if inputs.count(column) > 1:
                raise UsageError(f"column {column!r} is named twice as an input; name it once")
        for role, what in words.items():
            if (column := getattr(self, role)) is not None and column in inputs:
                raise UsageError(f"column {column!r} is {what}: it cannot be an input too; leave it out")
        for role in ("group", "key", "part"):
            if self.label is not None and getattr(self, role) == self.label:
                raise UsageError(f"column {self.label!r} is the class: it cannot be the {role} too; name another")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that a network sees, in the order text, image, audio, features."""
        single = (column for column in (self.image, self.audio) if column is not None)
        return (*self.text, *single, *self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that have a role, each once."""
        others = (column for column in (self.label, self.group, self.key, self.part) if column is not None)
        return tuple(dict.fromkeys((*self.inputs, *others)))

    def record(self) -> dict[str, Any]:
        """As JSON: the roles that are there."""
        return {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self).items() if one}

    @classmethod
    def read(cls, record: dict[str, Any]) -> Self:
        """What `record` wrote."""
        known = {field.name for field in fields(cls)}
        read: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in record.items() if name in known
        }
        return cls(**read)
