"""`instar targets import`: a store from the answers of a teacher that lie in a file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from instar.data import Dataset, Splits, texts_of
from instar.distillation import SoftTargetStore
from instar.distillation.answer_logits import as_logits
from instar.distillation.answers import Answers, read_answers
from instar.distillation.store_writing import store_settings, write_rows
from instar.errors import UsageError
from instar.recipes.reading_settings import checked, merge
from instar.recipes.settings import DataSettings
from instar.recipes.splits import load_splits
from instar.recipes.targets import examples_of, split_of

_FEW = 3  # keys that a message names


def import_store(
    out: Path,
    file: Path,
    *,
    data: Mapping[str, Any],
    key: str | None = None,
    made_at: float = 1.0,
    logits: bool = False,
    renormalise: bool = False,
    name: str | None = None,
    dtype: str = "float32",
    rows_per_shard: int | None = None,
) -> list[str]:
    """Store the answers in a file for the training and validation examples, matched by key.

    The key of an example is its file, from a folder of the data on down; of a text the text itself; or the number
    of its row: where there is no column of keys, row i of the file is row i of the data. Every
    training example needs an answer; the validation examples need one each, or none has one, since no student
    learns from them.

    Args:
        out: the store's folder.
        file: as for `read_answers`.
        data: settings of the data.
        key: the column of the keys; of texts by default the column that has the name of theirs.
        made_at: the temperature of the probabilities.
        logits: whether the numbers are logits.
        renormalise: leave out the classes that the data has not.
        name: of the teacher in the store; by default that of the file.
        dtype, rows_per_shard: as for `SoftTargetStore.write`.

    Returns:
        What was done to the answers, in sentences.

    Raises:
        UsageError: keys or classes that do not match those of the data, or as `SoftTargetStore.write`.
        DataError: as `read_answers`, or the numbers are no answers.
    """
    settings = checked(DataSettings, merge({}, data))
    splits = load_splits(settings)
    if key is None and splits.train.texts is not None and splits.roles is not None:
        key = splits.roles.text[0]
    answers = read_answers(file, key=key, logits=logits)
    values, done = as_logits(file, answers, splits.class_names, made_at=made_at, renormalise=renormalise)
    rows = match_keys(file, answers, splits)
    answered = [part for part in (splits.train, splits.validation) if int(part.ids[0]) in rows]
    examples = examples_of(splits) if len(answered) == 2 else splits.train
    if len(answered) == 1:
        done.append("no answers for the validation examples, which no student learns from")
    examples = examples.with_views(None, view_seed=settings.view_seed)
    name = name or "".join(letter if letter.isalnum() else "_" for letter in file.stem)
    ids = examples.ids.sort().values
    answered_by_id = values[torch.tensor([rows[example] for example in ids.tolist()])]
    found = store_settings(
        {name: hashlib.sha256(answered_by_id.numpy().tobytes()).hexdigest()},
        examples,
        answers=None,
        views=1,
        top_k=None,
        dtype=dtype,
        temperatures=(),
        rows_per_shard=rows_per_shard,
        split=split_of(settings, splits),
    )
    write_rows(out, found, ids, lambda part: [answered_by_id[part.start : part.stop][None]])
    SoftTargetStore.open(out)
    return done


def match_keys(file: Path, answers: Answers, splits: Splits) -> dict[int, int]:
    """The row of the file for each id of the training and validation examples.

    Raises:
        UsageError: a key is there twice, is that of no example or of several, or an example has no answer; or
            there are no keys, and not as many rows as in the data.
    """
    train = splits.train
    has_own = train.files is not None or train.texts is not None
    others = [part for part in (splits.validation, splits.test) if has_own or _are_parts(train, part)]
    own = [_keys_of(part) for part in (train, *others)]
    if answers.keys is None:
        if train.files is not None:
            raise UsageError(f"{file} has no column of keys; name the one that holds the files, --key COLUMN")
        expected, found = train.num_stored, len(answers.values)
        if found != expected:
            raise UsageError(
                f"{file} has no column of keys and {found:,} rows, {splits.name} has {expected:,}; give the "
                "row of each answer in a column 'row'"
            )
    names = map(str, range(len(answers.values))) if answers.keys is None else answers.keys
    keys = [(one,) if train.texts is not None else tuple(Path(one).parts) for one in names]
    _check_twice(file, keys)
    by_key = _by_suffix(own, {len(one) for one in keys})
    unknown = [one for one in keys if one not in by_key]
    if unknown and answers.keys is not None:
        raise UsageError(f"{file}: {_few(unknown)} no key of an example of {splits.name}, {_form(train, own[0])}")
    # Equal texts have equal answers, whatever their labels; equal ends of paths are different pictures.
    several = [one for one in keys if len(by_key.get(one, ())) > 1 and train.texts is None]
    if several:
        raise UsageError(f"{file}: {_few(several)} the key of several examples; write more of the path")
    rows = {example: row for row, one in enumerate(keys) for example in by_key.get(one, ())}
    for part, data in (("training", train), ("validation", splits.validation)):
        missing = [example for example in data.ids.tolist() if example not in rows]
        if missing and (part == "training" or len(missing) < len(data)):
            own_keys = _keys_of(data)
            lost = [own_keys[example] for example in missing]
            raise UsageError(
                f"{file} has no answer for {len(missing)} of {len(data)} {part} examples: {_shown(lost)}"
            )
    return rows


def _are_parts(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets are parts of one, so that a row means the same example in both."""
    try:
        return len(one.union(other)) > 0
    except UsageError:
        return False


def _keys_of(data: Dataset) -> dict[int, tuple[str, ...]]:
    """The key of each example by its id: the parts of its file's path, its text, or its row."""
    rows, ids = data.rows(data.ids).tolist(), data.ids.tolist()
    if data.texts is not None:
        return {example: (text,) for example, text in zip(ids, texts_of(data), strict=True)}
    if data.files is None:
        return {example: (str(row),) for example, row in zip(ids, rows, strict=True)}
    return {example: data.files[row].parts for example, row in zip(ids, rows, strict=True)}


def _by_suffix(own: list[dict[int, tuple[str, ...]]], lengths: set[int]) -> dict[tuple[str, ...], list[int]]:
    """The examples that end in a key, for keys of these lengths."""
    found: dict[tuple[str, ...], list[int]] = {}
    for keys in own:
        for example, parts in keys.items():
            for length in lengths:
                found.setdefault(parts[-length:], []).append(example)
    return found


def _check_twice(file: Path, keys: list[tuple[str, ...]]) -> None:
    if len(set(keys)) < len(keys):
        counts: dict[tuple[str, ...], int] = {}
        for one in keys:
            counts[one] = counts.get(one, 0) + 1
        twice = [one for one, count in counts.items() if count > 1]
        raise UsageError(f"{file}: {_few(twice)} there more than once; leave one row for each example")


def _few(keys: list[tuple[str, ...]]) -> str:
    """`2 keys ('a.png', 'b.png') are`."""
    is_one = len(keys) == 1
    return f"{len(keys)} key{'s' * (not is_one)} ({_shown(keys)}) {'is' if is_one else 'are'}"


def _shown(keys: list[tuple[str, ...]]) -> str:
    return ", ".join(repr("/".join(one[-2:])) for one in keys[:_FEW]) + ", ..." * (len(keys) > _FEW)


def _form(data: Dataset, own: dict[int, tuple[str, ...]]) -> str:
    one = next(iter(own.values()))
    what = ", a text" if data.texts is not None else "" if len(one) > 1 else ", a number of a row"
    return f"as {'/'.join(one[-2:])!r} is{what}"
