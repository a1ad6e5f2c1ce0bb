"""Data sets by name, split into training, validation and test data."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from instar.arguments import require_text
from instar.data.copies import contents_of, warn_of_copies
from instar.data.dataset import Dataset
from instar.data.documents import read_corpus
from instar.data.given import as_dataset
from instar.data.kinds import KindOptions, Preparation
from instar.data.known import FILES, FOLDER, PYTHON
from instar.data.normalisation import measured, normalised, parse_normalisation
from instar.data.official import load_digits, load_official, load_omniglot
from instar.data.pictures import PictureForm
from instar.data.readers.folder import (
    ImageFolder,
    common_form,
    find_parts,
    folder_dataset,
    holds_sounds,
    list_image_folder,
)
from instar.data.readers.images import MODES, ImageForm
from instar.data.records.roles import Roles
from instar.data.sources import SOURCES, TEXT_SOURCES
from instar.data.splits import stratified_split
from instar.errors import DataError, InstarError, UsageError
from instar.naming import ROW_SOURCES, import_function, is_source, is_text_files, unknown_name
from instar.structures import without_lengths

if TYPE_CHECKING:
    from instar.data.prepared import Prepared
    from instar.data.records.reading import Records

MEMORY_BUDGET_BYTES = 2 * 2**30
_TEST_FRACTION = 0.2  # for data without a test set
_DIGITS_TEST_SEED = 0  # fixed: the test digits are the same for everybody, whatever split_seed is


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test data of one task.

    Args:
        train: to train networks on.
        validation: to choose between them.
        test: to evaluate the chosen network, once.
        name: name of the data set.
        normalise: what `normalised` was called with; None for the normalisation that the data came with.
        roles: which columns the data was read from, where it was rows of a table.
        preparation: what these rows went through.
        notes: what was guessed or decided, a sentence each.

    Raises:
        DataError: the parts differ in class names or example shape.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    name: str = "data"
    normalise: str | None = None
    roles: Roles | None = None
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("validation", "test"):
            data = getattr(self, part)
            for what in ("class_names", "example_shape"):
                expected, found = getattr(self.train, what), getattr(data, what)
                if what == "example_shape":
                    expected, found = without_lengths(expected), without_lengths(found)
                if expected != found:
                    raise DataError(f"{self.name}: {what} of the {part} data: expected {expected}, found {found}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.train.class_names

    def normalised(self, how: str) -> "Splits":
        """The same data, with another normalisation of each channel in place of their own.

        Args:
            how: `imagenet` (the usual constants for ImageNet), `data` (mean and standard deviation of the training
                part), `none` (pixels from 0 to 1), or MEAN/SD: `0.5/0.25`, or a number for each channel,
                `0.49,0.48,0.45/0.25,0.24,0.26`.

        Raises:
            UsageError: another text, or numbers that do not fit the channels.

        Example:
            >>> digits = load_data("digits").normalised("data")
            >>> inputs = digits.train.gather(digits.train.ids, 0)
            >>> round(abs(float(inputs.mean())), 3), round(float(inputs.std()), 3)
            (0.0, 1.0)
        """
        numbers = parse_normalisation(how)
        if numbers is None:
            numbers = measured(self.train)
        train, validation, test = (normalised(part, numbers) for part in (self.train, self.validation, self.test))
        return dataclasses.replace(self, train=train, validation=validation, test=test, normalise=how)

    @property
    def fingerprint(self) -> str:
        """64 hex digits of the fingerprints of the three parts: their examples, without their normalisation."""
        parts = (self.train, self.validation, self.test)
        return hashlib.sha256(" ".join(part.fingerprint for part in parts).encode()).hexdigest()

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What a run directory knows the data by; see `Dataset.identity`."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {"fingerprint": self.fingerprint, **{name: part.identity["values"] for name, part in parts.items()}}


def load_data(
    name: Any,
    *,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    image_size: int | None = None,
    colour: str | None = None,
    progress: bool = True,
    base_url: str | None = None,
    memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
    label: str | Sequence[str] | None = None,
    text: str | Sequence[str] = (),
    image: str | None = None,
    audio: str | None = None,
    features: str | Sequence[str] = (),
    group: str | None = None,
    key: str | None = None,
    part: str | None = None,
    tokenizer: str | Path | int | None = None,
    max_length: int | None = None,
    categories: str | Sequence[str] = (),
    clip_seconds: float | None = None,
    sample_rate: int | None = None,
    split_by: str | None = None,
    separator: str | None = None,
    feature_extractor: str | None = None,
) -> Splits:
    """A data set by name, or rows with named columns.

    `digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `omniglot` (15, 2 and 3 of the 20 who drew each
    character); of texts `clinc150`, `sst2`; `folder:PATH` (one folder a class, or `train/`, `test/` and perhaps
    `validation/` of that kind) or
    `python:MODULE:FUNCTION` (returns `Splits`, or training and test data, each a data set or tensors (inputs,
    labels)). Rows of tables: `csv:`, `jsonl:`, `parquet:`, `hf:` (what `save_to_disk` wrote, or a name of the
    hub), `webdataset:` or `conll:`, each with a file, a folder or a pattern; or from Python a frame of pandas or
    polars, a table of Arrow, a mapping of columns, a `datasets.Dataset`, or a mapping of these by part. Running
    text, for networks that predict the next token: `text:` with files, folders and patterns
    (`documents.read_corpus`).

    Args:
        name: see above.
        validation_fraction: share of each training class that becomes validation data, where the data set has
            none.
        split_seed: chooses these examples; use the same for a teacher and all its students.
        image_size: height and width to which pictures are resized; those of a folder are cropped to a square
            first, and converted to colour unless all are grey.
        colour: `rgb` or `grey`: the pictures are converted.
        progress: draw bars on stderr where that is a terminal.
        base_url: base URL of a mirror; the checksums stay the same.
        memory_budget_bytes: a folder whose decoded images take more memory is streamed from its files.
        label, text, image, audio, features, group, key, part: which columns of a table are what, see `Roles`;
            those that are not named are guessed where there is one choice. Several columns of labels hold the
            probability of a class each.
        tokenizer: of texts: a folder as transformers saves it, a `tokenizer.json`, or how many ids one gets that
            is trained on the training part (4,000 by default).
        max_length: texts are cut at so many ids; 128 by default, or fewer where the tokenizer's network takes
            fewer.
        categories: the columns of a table whose numbers are categories.
        clip_seconds: length to which sounds are cut or padded; by default 95 % of the training clips are not cut.
        sample_rate: Hz, to which sounds are resampled; by default the commonest of the training clips.
        split_by: of running text, `file` (the documents of a file stay in one part) or `document`.
        separator: the text between the documents of a file; without one a file is a document.
        feature_extractor: of sounds: a folder as transformers saves it (`preprocessor_config.json`); what its
            feature extractor makes of clips are the examples, in place of filterbanks.

    Raises:
        DataError: files that are missing, damaged, of different forms, or cannot be downloaded.
        UsageError: an unknown name, or an argument out of range.

    Example:
        >>> digits = load_data("digits")
        >>> len(digits.train), len(digits.validation), len(digits.test), digits.train.example_shape
        (1295, 143, 359, (1, 8, 8))
    """
    about: dict[str, Any] = {"validation_fraction": validation_fraction, "split_seed": split_seed}
    if max_length is not None and (type(max_length) is not int or max_length < 1):
        raise UsageError(f"max_length is {max_length!r}, expected a whole number of ids from 1 on")
    tokenizer = None if tokenizer is None else str(tokenizer)
    if is_text_files(name):
        return _of_running_text(name, split_by, separator, tokenizer, max_length, **about)
    if (split_by, separator) != (None, None):
        raise UsageError(f"split_by and separator are for text:FILES, data {name!r} has no documents")
    label = None if label is None else ",".join(_names(label))
    roles = Roles(label, _names(text), image, audio, _names(features), group, key, part)
    options = KindOptions(
        image_size=image_size,
        colour=colour,
        tokenizer=tokenizer,
        max_length=max_length,
        clip_seconds=clip_seconds,
        sample_rate=sample_rate,
        feature_extractor=feature_extractor,
        categories=tuple(one.strip() for name in _names(categories) for one in name.split(",")),
        memory_budget_bytes=memory_budget_bytes,
        progress=progress,
    )
    if is_source(name) or not isinstance(name, str):
        from instar.data.records import frames, reading  # these need Arrow, which the other data do not

        read = functools.partial(reading.read_records, name, roles, **about)
        if is_source(name):
            return _of_files(name, reading.files_of(name), roles, about, options, read)
        if frames.is_rows(name):
            return of_records(read(), options)
    require_text("load_data", name, "folder:PATH")
    if name in TEXT_SOURCES:
        from instar.data.records import official

        files = official.files_of(name, base_url=base_url, progress=progress)
        read_text = functools.partial(official.read_records, name, files)
        return _of_files(name, files, official.ROLES, {}, options, read_text)
    if roles.columns or categories:
        raise UsageError(
            f"data {name!r} has no columns; label, text, ... are for csv:, jsonl:, parquet:, hf: and webdataset:"
        )
    form = _checked_form(name, image_size, colour, memory_budget_bytes)
    validation: Dataset | None = None
    if name == "digits":
        train, test = _cut(load_digits(form), _TEST_FRACTION, _DIGITS_TEST_SEED)
    elif name == "omniglot":
        train, validation, test = load_omniglot(form, split_seed=split_seed, base_url=base_url, progress=progress)
    elif name in SOURCES:
        train, test = load_official(name, form, base_url=base_url, progress=progress)
    elif name.startswith("folder:"):
        folder = Path(name.removeprefix("folder:")).expanduser()
        if holds_sounds(folder):
            from instar.data.records import reading, sound_folder

            tables = sound_folder.read_tables(folder)
            return of_records(reading.split_records(tables, name, sound_folder.ROLES, **about), options)
        folders = _FolderReader(folder, image_size, colour, memory_budget_bytes, progress)
        train, validation, test = folders.splits(split_seed)
    elif name.startswith("python:"):
        train, validation, test = _from_function(name)
    else:
        known = [
            "digits",
            *SOURCES,
            *TEXT_SOURCES,
            FOLDER,
            FILES,
            *(f"{scheme}:PATH" for scheme in ROW_SOURCES),
            PYTHON,
        ]
        raise unknown_name("data set", name, known)
    if validation is None:
        train, validation = _cut(train, validation_fraction, split_seed, of_user=name.startswith("python:"))
    splits = Splits(train, validation, test, name)
    if name.startswith(("folder:", "python:")):
        warn_of_copies(name, {"training": train, "validation": validation, "test": test})
    return splits


def _of_running_text(
    name: str,
    split_by: str | None,
    separator: str | None,
    tokenizer: str | None,
    max_length: int | None,
    **about: Any,
) -> Splits:
    """Running text as sequences of tokens."""
    from instar.data.kinds.tokens import fit_tokens, token_data

    corpus = read_corpus(name, by=split_by or "file", separator=separator, **about)
    preparation = fit_tokens(corpus, tokenizer=tokenizer, max_length=max_length)
    train, validation, test = (token_data(corpus, part, preparation) for part in ("train", "validation", "test"))
    return Splits(
        train, validation, test, name, roles=Roles(text=("text",)), preparation=preparation, notes=corpus.notes
    )


def of_records(records: "Records", options: KindOptions) -> Splits:
    """Rows with named columns as a task."""
    from instar.data.prepared import prepared

    return _of_prepared(prepared(records, options))


def _of_files(
    name: str, files: Sequence[Path], roles: Roles, about: Any, options: KindOptions, read: Callable[[], "Records"]
) -> Splits:
    """Rows of files as a task; from the cache where they were read before."""
    from instar.data.reading_once import read_once

    return _of_prepared(read_once(files, name, roles, about, options, read))


def _of_prepared(made: "Prepared") -> Splits:
    train, validation, test = made.parts
    about: dict[str, Any] = {"roles": made.roles, "preparation": made.preparation, "notes": made.notes}
    return Splits(train, validation, test, made.source, **about)


def _names(columns: str | Sequence[str] | None) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else columns or ()
    if not isinstance(names, Sequence) or not all(isinstance(one, str) for one in names):
        raise UsageError(f"{columns!r} is no column: expected the name of one, or a list of names")
    return tuple(names)


def _checked_form(name: str, image_size: int | None, colour: str | None, memory_budget_bytes: int) -> PictureForm:
    if name.startswith("python:") and (image_size, colour) != (None, None):
        raise UsageError(
            f"image_size and colour are for pictures that instar reads; the function of data {name!r} decides them"
        )
    if image_size is not None and image_size < 1:
        raise UsageError(f"image_size {image_size} should be at least 1 (data {name!r})")
    if colour is not None and colour not in MODES:
        raise unknown_name("colour", colour, MODES)
    return PictureForm(image_size, colour, memory_budget_bytes)


def _cut(
    data: Dataset, fraction: float, seed: int, *, of_user: bool = False, parts: int = 2
) -> tuple[Dataset, Dataset]:
    """Split off a part of every class: the rest, and the part. A user's own ids say nothing of the content."""
    contents = contents_of(data) if of_user else None
    about: dict[str, Any] = {"class_names": data.class_names, "contents": contents, "parts": parts}
    rest, chosen = stratified_split(data.ids, data.labels(data.ids), fraction=fraction, split_seed=seed, **about)
    return data.subset(rest), data.subset(chosen)


@dataclasses.dataclass(frozen=True)
class _FolderReader:
    folder: Path
    image_size: int | None
    colour: str | None
    memory_budget_bytes: int
    progress: bool

    def splits(self, split_seed: int) -> tuple[Dataset, Dataset | None, Dataset]:
        """Split by the folder's parts, if it has train/ and test/; else a fifth of each class is the test set."""
        parts = find_parts(self.folder)
        if not parts:
            whole, _ = self._read(list_image_folder(self.folder))
            train, test = _cut(whole, _TEST_FRACTION, split_seed, parts=3)
            return train, None, test
        train, form = self._read(list_image_folder(parts.pop("train")))
        others = {
            part: self._read(list_image_folder(path, class_names=train.class_names), form)[0]
            for part, path in parts.items()
        }
        return train, others.get("validation"), others["test"]

    def _read(self, listing: ImageFolder, form: ImageForm | None = None) -> tuple[Dataset, ImageForm]:
        budget, progress = self.memory_budget_bytes, self.progress
        try:
            if form is None:
                form = common_form(
                    listing.files, image_size=self.image_size, colour=self.colour, progress=progress
                )
            return folder_dataset(listing, form, memory_budget_bytes=budget, progress=progress), form
        except DataError as error:
            raise DataError(
                f"{error} (instar data check folder:{self.folder} lists all that is broken)"
            ) from error


def _from_function(name: str) -> tuple[Dataset, Dataset | None, Dataset]:
    function = import_function(name)
    try:
        made: Any = function()
        if isinstance(made, Splits):
            return made.train, made.validation, made.test
        if not isinstance(made, tuple | list) or len(made) != 2:
            found = f"{len(made)} things" if isinstance(made, tuple | list) else type(made).__name__
            raise UsageError(f"should return Splits, or training and test data; found {found}")
        if all(isinstance(part, torch.Tensor) for part in made):
            raise UsageError("should return training and test data, each a pair (inputs, labels); found one pair")
        train = as_dataset(made[0])
        return train, None, as_dataset(made[1], class_names=train.class_names)
    except InstarError as error:
        raise type(error)(f"{name}: {error}") from error
    except Exception as error:
        raise DataError(f"{name}: the function failed with {type(error).__name__}: {error}") from error
