"""Rows of lists of words with a tag each, as sequences with a class at each position."""

import warnings

from instar.data.kinds import KindOptions
from instar.data.kinds.words import WordPreparation, at_pieces, fit_words
from instar.data.records.places import Places, place_of
from instar.data.records.reading import Records
from instar.data.records.tags import numbers_of_tags, words_of
from instar.data.tagged import TaggedSequences
from instar.errors import DataError, DataWarning


def tagged_parts(records: Records, options: KindOptions) -> tuple[WordPreparation, list[TaggedSequences]]:
    """The preparation of words, fitted on the training rows, and the parts in their order.

    Raises:
        DataError: rows that cannot be used, or a tag that the training part lacks; names the row.

    Warns:
        DataWarning: words behind the longest sentence that is taken, or without an id.
    """
    text = records.roles.text[0]
    sentences = {part: words_of(table, text) for part, table in records.parts.items()}
    about = {"tokenizer": options.tokenizer, "max_length": options.max_length}
    preparation = fit_words(sentences["train"], **about)  # type: ignore[arg-type]
    found, learned = [], set[int]()
    num_lost = 0
    for part, table in records.parts.items():
        tags = numbers_of_tags(table, records.roles, records.class_names)
        numbers = [{*one.tolist()} - {-1} for one in tags]
        learned = learned or set().union(*numbers)
        for row, here in enumerate(numbers):
            if strange := here - learned:
                name = records.class_names[min(strange)]
                raise DataError(f"{place_of(table, row)}: tag {name!r} is in the {part} part alone")
        inputs, begun = preparation.pieces(sentences[part])
        labels = [at_pieces(*pair) for pair in zip(tags, begun, strict=True)]
        num_lost += sum(map(len, tags)) - sum(int((one >= 0).sum()) for one in begun)
        data = TaggedSequences(inputs, labels, class_names=records.class_names, ids=records.ids[part])
        if records.roles.key is None:
            data.files = Places(table)
        else:
            data.keys = table[records.roles.key].cast("string")
        found.append(data)
    if num_lost:
        num_words = sum(len(words) for part in sentences.values() for words in part)
        warnings.warn(
            f"{num_lost:,} of {num_words:,} words are left out with their tags: they have no id, or stand behind "
            f"the first {preparation.tokenising.max_length} ids of their sentence; --max-length is another length",
            DataWarning,
            stacklevel=2,
        )
    return preparation, found
