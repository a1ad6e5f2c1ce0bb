"""Examples of any structure: a tensor, or a mapping or a tuple of tensors; and the forms of single examples.

Numbers (floating point, and pixels, which are uint8) are computed with in the type of a network's weights. Other
integers and booleans are ids and masks, and stay what they are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

Inputs = Any
"""A tensor, or a mapping by name or a tuple of tensors, all with the same examples in their first dimension."""

Form = Any
"""The shape of one example, (3, 32, 32); that of integers is led by their type, ("int64", 34), a length that
varies is its longest, ("int64", "<=34"), and their mask is a "mask". Ids whose number is known say so, and by what
they are ids of: ("int64<4000#9f3a12c4", "<=34"). A mapping or a tuple has one for each."""

MASK, _UP_TO = "mask", "<="
_BELOW, _OF = "<", "#"
NEXT, TAGS = "+next", "+tags"
"""Behind ids in a form: the labels of the data are the ids that follow, or a class of each; a network for them has
logits at each position."""
TEXT = "text"
"""The name under which a network that reads texts itself gets them: UTF-8, (batch, bytes), padded with 0."""

SOUND, NUM_SAMPLES = "sound", "num_samples"
"""The names under which a network that hears sounds itself gets them: (batch, samples), with zeros behind the end
of shorter ones, and the number of samples of each, (batch,), of which 0 stands for all."""


def tensors_in(inputs: Inputs) -> list[Any]:
    """The tensors of a structure, in order.

    Example:
        >>> [len(one) for one in tensors_in({"ids": torch.zeros(3, 2), "mask": torch.ones(3, 2)})]
        [3, 3]
    """
    if isinstance(inputs, Mapping):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple) else [inputs]


def by_name(inputs: Inputs) -> dict[str, Any]:
    """The tensors of a structure by the names that an exported file has for them.

    Example:
        >>> list(by_name(torch.zeros(3))), list(by_name((torch.zeros(3), torch.ones(3))))
        (['inputs'], ['inputs_0', 'inputs_1'])
    """
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, tuple):
        return {f"inputs_{place}": one for place, one in enumerate(inputs)}
    return {"inputs": inputs}


def map_tensors(function: Callable[[Any], Any], inputs: Inputs) -> Inputs:
    """The same structure with a function of each of its tensors.

    Example:
        >>> map_tensors(len, {"ids": torch.zeros(3, 2), "mask": torch.ones(3, 2)})
        {'ids': 3, 'mask': 3}
    """
    if isinstance(inputs, Mapping):
        return {name: function(one) for name, one in inputs.items()}
    return tuple(function(one) for one in inputs) if isinstance(inputs, tuple) else function(inputs)


def num_examples(inputs: Inputs) -> int:
    """How many examples a batch holds."""
    return len(inputs) if isinstance(inputs, Tensor) else len(tensors_in(inputs)[0])


def device_of(inputs: Inputs) -> torch.device:
    """Where the tensors are."""
    found: torch.device = tensors_in(inputs)[0].device
    return found


def are_numbers(dtype: torch.dtype) -> bool:
    """Whether values of a type are computed with: floating point and pixels, not ids and masks."""
    return dtype.is_floating_point or dtype == torch.uint8


def in_type(
    inputs: Inputs, dtype: torch.dtype, *, device: str | torch.device | None = None, copy: bool = False
) -> Inputs:
    """Inputs whose numbers have a type, perhaps on another device; ids and masks keep theirs.

    Example:
        >>> [one.dtype for one in in_type((torch.zeros(2), torch.tensor([1, 2])), torch.float64)]
        [torch.float64, torch.int64]
    """

    def convert(one: Tensor) -> Tensor:
        return one.to(device=device, dtype=dtype if are_numbers(one.dtype) else one.dtype, copy=copy)

    return convert(inputs) if isinstance(inputs, Tensor) else map_tensors(convert, inputs)


def to_device(inputs: Inputs, device: str | torch.device) -> Inputs:
    """The same structure on another device."""
    return map_tensors(lambda one: one.to(device), inputs)


def first_examples(inputs: Inputs, number: int) -> Inputs:
    """The first examples of a batch."""
    return map_tensors(itemgetter(slice(number)), inputs)


def copied_inputs(inputs: Inputs) -> Inputs:
    """A copy of all tensors, for a network that may write into them."""
    return map_tensors(torch.Tensor.clone, inputs)


def split_examples(inputs: Inputs, size: int) -> list[Inputs]:
    """The examples of a batch in smaller batches.

    Example:
        >>> [num_examples(part) for part in split_examples((torch.zeros(5), torch.zeros(5, 2)), 2)]
        [2, 2, 1]
    """
    if isinstance(inputs, Tensor):
        return list(torch.split(inputs, size))
    starts = range(0, num_examples(inputs), size)
    return [map_tensors(itemgetter(slice(start, start + size)), inputs) for start in starts]


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Batches of one structure as one batch.

    Example:
        >>> joined([{"ids": torch.tensor([1])}, {"ids": torch.tensor([2, 3])}])
        {'ids': tensor([1, 2, 3])}
    """
    columns = [torch.cat(column) for column in zip(*map(tensors_in, parts), strict=True)]
    column = iter(columns)
    return map_tensors(lambda _: next(column), parts[0])


def are_equal(one: Inputs, other: Inputs) -> bool:
    """Whether two structures of the same kind hold equal tensors; NaN equals NaN."""
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) if a.is_floating_point() else torch.equal(a, b)
               for a, b in pairs)  # fmt: skip


def form_of(dtype: torch.dtype, shape: Sequence[int | str], *, ids: str = "") -> tuple[int | str, ...]:
    """The form of one example in a tensor.

    Args:
        dtype: of the tensor.
        shape: of one example.
        ids: of integers, how many there are and of what (`ids_of`).

    Example:
        >>> form_of(torch.uint8, (3, 32, 32)), form_of(torch.int64, (34,))
        ((3, 32, 32), ('int64', 34))
    """
    return tuple(shape) if are_numbers(dtype) else (str(dtype).removeprefix("torch.") + ids, *shape)


def ids_of(number: int, name: str) -> str:
    """How many ids there are, and of what, in a form: networks are built for them, and are refused for others.

    Example:
        >>> form_of(torch.int64, (up_to(34),), ids=ids_of(4000, "9f3a12c4"))
        ('int64<4000#9f3a12c4', '<=34')
    """
    return f"{_BELOW}{number}{_OF}{name}" if name else f"{_BELOW}{number}"


def predicts_next(form: Form) -> bool:
    """Whether the labels of examples of a form are the ids that follow each of theirs.

    Example:
        >>> predicts_next({"input_ids": ("int64<4000#9f3a12c4+next", 128), "attention_mask": ("mask", 128)})
        True
    """
    return _ends_with(form, NEXT)


def is_tagged(form: Form) -> bool:
    """Whether examples of a form have a class at each of their ids.

    Example:
        >>> is_tagged({"input_ids": ("int64<4000#9f3a12c4+tags", "<=34"), "attention_mask": ("mask", "<=34")})
        True
    """
    return _ends_with(form, TAGS)


def has_labels_at_each(form: Form) -> bool:
    """Whether a network for examples of a form has logits at each position, whatever the labels there are."""
    return predicts_next(form) or is_tagged(form)


def _ends_with(form: Form, mark: str) -> bool:
    return any(isinstance(part[0], str) and part[0].endswith(mark) for part in tensors_in(_wrapped(form)) if part)


def num_ids(part: Sequence[int | str]) -> int | None:
    """How many ids there are, by the form of one tensor; None where it does not say.

    Example:
        >>> num_ids(("int64<4000#9f3a12c4", "<=34")), num_ids(("int64", "<=34")), num_ids((3, 32, 32))
        (4000, None, None)
    """
    number = _ids_in(part).partition(_OF)[0]
    return int(number) if number else None


def name_of_ids(part: Sequence[int | str]) -> str:
    """What the ids of one tensor are of, by its form; empty where it does not say."""
    return _ids_in(part).partition(_OF)[2]


def _ids_in(part: Sequence[int | str]) -> str:
    first = part[0] if part else None
    if not isinstance(first, str) or first.startswith(_UP_TO):
        return ""
    return first.partition(_BELOW)[2].removesuffix(NEXT).removesuffix(TAGS)


def in_words(inputs: Inputs) -> str:
    """The shapes of the examples of a batch, as messages call them.

    Example:
        >>> in_words(torch.zeros(8, 3, 2)), in_words({"ids": torch.zeros(8, 5, dtype=torch.int64)})
        ('(3, 2)', "{'ids': ('int64', 5)}")
    """
    return str(map_tensors(lambda one: form_of(one.dtype, one.shape[1:]), inputs))


def up_to(length: int) -> str:
    """A length that varies, in a form."""
    return f"{_UP_TO}{length}"


def is_plain(form: Form) -> bool:
    """Whether examples of a form are single tensors of numbers, all of one shape.

    Example:
        >>> is_plain((3, 32, 32)), is_plain(("int64", 34)), is_plain({"pixels": (3, 32, 32)})
        (True, False, False)
    """
    return not isinstance(form, Mapping) and all(isinstance(size, int) for size in form)


def is_structure(form: Form) -> bool:
    """Whether examples of a form are mappings or tuples of tensors, not single ones.

    Example:
        >>> is_structure({"ids": ("int64", 34)}), is_structure(("int64", 34))
        (True, False)
    """
    return isinstance(form, Mapping) or any(isinstance(part, list | tuple) for part in form)


def varies(form: Form) -> bool:
    """Whether examples of a form differ in length."""
    return any(
        isinstance(size, str) and size.startswith(_UP_TO) for part in tensors_in(_wrapped(form)) for size in part
    )


def mask_place(form: Form) -> str | int | None:
    """Where the mask of padded examples is: its name in a mapping, its place in a tuple; None where there is none.

    Example:
        >>> mask_place({"ids": ("int64", "<=34"), "mask": ("mask", "<=34")}), mask_place((3, 32, 32))
        ('mask', None)
    """
    named = form.items() if isinstance(form, Mapping) else enumerate(_wrapped(form))
    return next((place for place, part in named if _type_of(part) == MASK), None)


def map_form(function: Callable[[Sequence[int | str]], Any], form: Form) -> Any:
    """A function of the form of each tensor, in the same structure."""
    if isinstance(form, Mapping):
        return {name: function(part) for name, part in form.items()}
    return tuple(function(part) for part in form) if is_structure(form) else function(form)


def read_form(written: Any) -> Form:
    """A form from a configuration, where it is made of lists."""
    return map_form(tuple, written)


def written_form(form: Form) -> Any:
    """A form as a configuration holds it.

    Example:
        >>> written_form((3, 32, 32)), written_form((("int64", 5), (2,)))
        ([3, 32, 32], [['int64', 5], [2]])
    """
    found = map_form(list, form)
    return list(found) if isinstance(found, tuple) else found


def without_lengths(form: Form) -> Form:
    """A form without how long the longest example is: what two parts of the same data share.

    Example:
        >>> without_lengths(("int64", "<=34"))
        ('int64', '<=')
    """

    def without(part: Sequence[int | str]) -> Any:
        sizes = [_UP_TO if isinstance(size, str) and size.startswith(_UP_TO) else size for size in part]
        return sizes if isinstance(part, list) else tuple(sizes)

    return map_form(without, form)


def without_ids(form: Form) -> Form:
    """A form without how many ids there are, and of what: lists of numbers do not say.

    Example:
        >>> without_ids(("int64<4000#9f3a12c4", "<=34"))
        ('int64', '<=34')
    """

    def without(part: Sequence[int | str]) -> Any:
        kind = _type_of(part)
        return tuple(part) if kind is None else (kind, *part[1:])

    return map_form(without, form)


def form_in_words(form: Form) -> str:
    """A form in a table.

    Example:
        >>> form_in_words((3, 32, 32)), form_in_words({"ids": ("int64", "<=34"), "age": (1,)})
        ('3x32x32', 'ids int64 <=34, age 1')
    """

    def words(part: Sequence[int | str]) -> str:
        kind = [part[0]] if _type_of(part) else []
        return " ".join(map(str, [*kind, "x".join(map(str, part[len(kind) :]))])).strip()

    found = map_form(words, form)
    if isinstance(found, Mapping):
        return ", ".join(f"{name} {one}" for name, one in found.items())
    return ", ".join(found) if isinstance(found, tuple) else str(found)


def examples_in(form: Form, number: int, floats: Callable[..., Tensor] = torch.zeros) -> Inputs:
    """Examples of a form, at its longest: numbers as `floats` of a shape gives them, ids 0, masks 1.

    Example:
        >>> examples_in({"ids": ("int64", "<=3"), "pixels": (2,)}, 1)
        {'ids': tensor([[0, 0, 0]]), 'pixels': tensor([[0., 0.]])}
    """

    def make(part: Sequence[int | str]) -> Tensor:
        kind, shape = _type_of(part), (number, *_sizes(part))
        if kind is None:
            return floats(*shape)
        return (
            torch.ones(shape, dtype=torch.int64)
            if kind == MASK
            else torch.zeros(shape, dtype=getattr(torch, kind))
        )

    return map_form(make, form)


def num_values(form: Form) -> int:
    """How many numbers one example holds, at its longest.

    Example:
        >>> num_values((3, 32, 32)), num_values((("int64", "<=5"), (2,)))
        (3072, 7)
    """
    return sum(math.prod(_sizes(part)) for part in tensors_in(_wrapped(form)))


def _wrapped(form: Form) -> Any:
    """The form of a single tensor as a tuple of one."""
    return (form if isinstance(form, Mapping) else tuple(form)) if is_structure(form) else (tuple(form),)


def _type_of(part: Sequence[int | str]) -> str | None:
    first = part[0] if part else None
    return first.partition(_BELOW)[0] if isinstance(first, str) and not first.startswith(_UP_TO) else None


def _sizes(part: Sequence[int | str]) -> list[int]:
    sizes = part[1:] if _type_of(part) else part
    return [int(size.removeprefix(_UP_TO)) if isinstance(size, str) else size for size in sizes]
