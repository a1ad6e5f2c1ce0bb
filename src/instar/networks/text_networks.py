"""Networks of texts that can be named: a bag of words, convolutions over words, a transformer.

Each takes `input_ids` and `attention_mask`, and perhaps `token_type_ids`, which it does not need. Padding counts
for nothing: a text alone has the logits that it has in a padded batch, but for rounding.
"""

import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from instar.errors import UsageError
from instar.structures import Form, form_in_words, is_tagged, num_ids, predicts_next

TEXT_FORMS = ("bag:64", "textconv:64-64", "transformer:2x128", "causal:2x128")
_HEAD_WIDTH = 32  # numbers that one head of attention compares, as in small BERTs
_INITIAL_SD = 0.1  # of embeddings; from 1, a rate that is right for the other weights hardly moves them
_WIDER = 4  # hidden units of a perceptron for each of its inputs, as in Vaswani et al. 2017


def is_text_network(name: str) -> bool:
    """Whether a name is that of one of these networks.

    Example:
        >>> is_text_network("bag:64"), is_text_network("mlp:64x1")
        (True, False)
    """
    return name.partition(":")[0] in {form.partition(":")[0] for form in TEXT_FORMS}


def text_network(name: str, input_shape: Form, num_classes: int, *, dropout: float = 0.0) -> nn.Module:
    """The network that a name describes, not yet initialised.

    Args:
        name: `bag:DIM`, `textconv:C1-C2-...` or `textconv:CxN`, `transformer:LAYERSxWIDTH`; of running text
            `causal:LAYERSxWIDTH`, which has logits of the next token at each. The second and the third have logits
            of each word where the data has classes of words.
        input_shape: the form of an example: a mapping with `input_ids`, whose number it says.
        num_classes: number of logits.
        dropout: probability of dropping an output of the embedding and of each hidden layer.

    Raises:
        UsageError: another size, or examples that are no ids of a known number.

    Example:
        >>> form = {"input_ids": ("int64<4000", "<=34"), "attention_mask": ("mask", "<=34")}
        >>> [name for name, _ in text_network("transformer:2x64", form, 10).named_children()]
        ['embedding', 'block1', 'block2', 'head']
        >>> sum(value.numel() for value in text_network("bag:16", form, 10).parameters())
        65738
    """
    number = _number_of_ids(name, input_shape)
    kind, _, size = name.partition(":")
    if (kind == "causal") != predicts_next(input_shape):
        what = "predicts the next token" if kind == "causal" else "classifies whole texts"
        raise UsageError(
            f"network {name!r} {what}, and the data is "
            + ("of classes" if kind == "causal" else "running text: causal:2x128 predicts the next token")
        )
    at_each = is_tagged(input_shape)
    if kind == "bag" and at_each:
        raise UsageError(
            f"network {name!r} has no order of words, and the data has a class at each: transformer:2x128"
        )
    uniform, plain = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", size), re.fullmatch("[1-9][0-9]*", size)
    if kind == "bag" and plain:
        return Bag(number, int(size), num_classes, dropout=dropout)
    if kind == "transformer" and uniform:
        about = {"dropout": dropout, "at_each": at_each}
        return Transformer(number, int(uniform[1]), int(uniform[2]), num_classes, **about)  # type: ignore[arg-type]
    if kind == "causal" and uniform:
        return Causal(number, int(uniform[1]), int(uniform[2]), num_classes, dropout=dropout)
    if kind == "textconv" and (uniform or re.fullmatch("[1-9][0-9]*(-[1-9][0-9]*)*", size)):
        channels = [int(uniform[1])] * int(uniform[2]) if uniform else [int(one) for one in size.split("-")]
        return TextConv(number, channels, num_classes, dropout=dropout, at_each=at_each)
    forms = {
        "bag": "bag:DIM, bag:64",
        "textconv": "textconv:CHANNELS-CHANNELS-... or textconv:CHANNELSxLAYERS, textconv:64-64",
        "transformer": "transformer:LAYERSxWIDTH, transformer:2x128",
        "causal": "causal:LAYERSxWIDTH, causal:2x128",
    }
    raise UsageError(f"network {name!r} should be {forms[kind]} for instance")


def _number_of_ids(name: str, input_shape: Form) -> int:
    part = input_shape.get("input_ids") if isinstance(input_shape, Mapping) else None
    if part is None:
        raise UsageError(
            f"network {name!r} takes texts (input_ids), an example is {form_in_words(input_shape)}: name a source "
            "of texts (csv:FILE --text COLUMN)"
        )
    number = num_ids(part)
    if number is None:
        raise UsageError(
            f"network {name!r} has to know how many ids there are, an example is {form_in_words(input_shape)}: "
            'give {"input_ids": instar.data.numbered(lists of ids, NUMBER)}'
        )
    return number


class Bag(nn.Module):
    """The mean of the embeddings of the words, and a perceptron of one hidden layer with 4 units a dimension.

    References:
        Iyyer, Manjunatha, Boyd-Graber and Daumé 2015, *Deep Unordered Composition*; Joulin et al. 2016 (fastText).
    """

    def __init__(self, num_words: int, width: int, num_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = embedding(num_words, width)
        self.fc1 = nn.Sequential(nn.Linear(width, _WIDER * width), nn.ReLU(), *_dropped(dropout))
        self.fc2 = nn.Linear(_WIDER * width, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of ids and mask (batch, words)."""
        logits: Tensor = self.fc2(self.fc1(masked_mean(self.embedding(input_ids), attention_mask)))
        return logits


class TextConv(nn.Module):
    """Convolutions over three words each, the largest value of each channel, and a linear layer.

    `at_each` word there are logits of its own values, not of the largest.

    References:
        Collobert et al. 2011, *Natural Language Processing (Almost) from Scratch*; Kim 2014.
    """

    def __init__(
        self,
        num_words: int,
        channels: Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.0,
        at_each: bool = False,
    ) -> None:
        super().__init__()
        self.at_each = at_each
        self.embedding = embedding(num_words, channels[0])
        self.num_layers = len(channels)
        for number, (before, after) in enumerate(zip((channels[0], *channels), channels, strict=False), 1):
            layer = nn.Sequential(nn.Conv1d(before, after, 3, padding=1), nn.ReLU(), *_dropped(dropout))
            self.add_module(f"conv{number}", layer)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits (batch, classes), or (batch, words, classes), of ids and mask (batch, words)."""
        values = self.embedding(input_ids).transpose(1, 2)
        there = attention_mask[:, None].to(values.dtype)
        for number in range(1, self.num_layers + 1):
            values = self.get_submodule(f"conv{number}")(values * there)
        # A ReLU gives nothing below 0.
        logits: Tensor = self.head(values.transpose(1, 2) if self.at_each else (values * there).amax(2))
        return logits


class Transformer(nn.Module):
    """Layers of attention over all words, normalised before each part; the mean of the words, and a linear layer.

    Positions are sines, which have no longest text. `at_each` word there are logits of its own values, not of the
    mean.

    References:
        Vaswani et al. 2017, *Attention Is All You Need*; Xiong et al. 2020 for the place of the normalisation.
    """

    def __init__(
        self,
        num_words: int,
        num_layers: int,
        width: int,
        num_classes: int,
        *,
        dropout: float = 0.0,
        at_each: bool = False,
    ) -> None:
        super().__init__()
        self.at_each = at_each
        if width % 2:
            raise UsageError(f"transformer:{num_layers}x{width}: the width should be even, for sines and cosines")
        self.num_layers = num_layers
        self.embedding = PlacedEmbedding(num_words, width, dropout=dropout)
        for number in range(1, num_layers + 1):
            self.add_module(f"block{number}", AttentionBlock(width, dropout=dropout))
        self.head = nn.Sequential(nn.LayerNorm(width), *_dropped(dropout), nn.Linear(width, num_classes))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of ids and mask (batch, words)."""
        values = self.embedding(input_ids)
        for number in range(1, self.num_layers + 1):
            values = self.get_submodule(f"block{number}")(values, attention_mask)
        logits: Tensor = self.head(values if self.at_each else masked_mean(values, attention_mask))
        return logits


class Causal(nn.Module):
    """Layers of attention to the tokens so far, normalised before each part; logits of the next token at each.

    Positions are sines, which have no longest sequence. Padding stands behind the end, where no token sees it.

    References:
        Vaswani et al. 2017, *Attention Is All You Need*; Radford et al. 2019 for the order of the parts.
    """

    def __init__(
        self, num_words: int, num_layers: int, width: int, num_classes: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % 2:
            raise UsageError(f"causal:{num_layers}x{width}: the width should be even, for sines and cosines")
        self.num_layers = num_layers
        self.embedding = PlacedEmbedding(num_words, width, dropout=dropout)
        for number in range(1, num_layers + 1):
            self.add_module(f"block{number}", AttentionBlock(width, dropout=dropout, is_causal=True))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits (batch, words, classes) of ids (batch, words)."""
        values = self.embedding(input_ids)
        for number in range(1, self.num_layers + 1):
            values = self.get_submodule(f"block{number}")(values, attention_mask)
        logits: Tensor = self.head(self.norm(values))
        return logits


class PlacedEmbedding(nn.Module):
    """Embeddings of words, each with its place: sines and cosines of falling frequencies; normalised."""

    def __init__(self, num_words: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.words, self.norm = embedding(num_words, width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, words) ids -> (batch, words, width)."""
        words = self.words(input_ids)
        half = words.shape[-1] // 2
        rates = torch.exp(torch.arange(half, device=words.device) * (-math.log(10_000.0) / half))
        angles = torch.arange(input_ids.shape[1], device=words.device)[:, None] * rates
        places = torch.cat((angles.sin(), angles.cos()), dim=-1).to(words.dtype)
        placed: Tensor = self.dropout(self.norm(words + _INITIAL_SD * places))  # a place says no more than a word
        return placed


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); padding is not attended to.

    Where it is causal, a word attends to itself and those before it, and padding has to stand behind the end.
    """

    def __init__(self, width: int, *, dropout: float = 0.0, is_causal: bool = False) -> None:
        super().__init__()
        self.is_causal = is_causal
        most = max(1, width // _HEAD_WIDTH)
        self.num_heads = next(heads for heads in range(most, 0, -1) if width % heads == 0)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, _WIDER * width), nn.GELU(), nn.Linear(_WIDER * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(batch, words, width), (batch, words) -> (batch, words, width)."""
        heads = self.query_key_value(self.norm1(values)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, words, numbers)
        there = None if self.is_causal or attention_mask is None else attention_mask[:, None, None].bool()
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=there, is_causal=self.is_causal
        )
        values = values + self.dropout(self.mixed(attended.transpose(1, 2).flatten(2)))
        found: Tensor = values + self.dropout(self.perceptron(self.norm2(values)))
        return found


def embedding(num_words: int, width: int) -> nn.Embedding:
    """A table of embeddings that start small: a step of AdamW moves each weight by about the same."""
    table = nn.Embedding(num_words, width)
    table.initial_sd = _INITIAL_SD  # type: ignore[assignment]
    return table


def masked_mean(values: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over the words of each text: (batch, words, width), (batch, words) -> (batch, width).

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[2.]])
    """
    there = attention_mask.to(values.dtype)
    return (values * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def _dropped(dropout: float) -> list[nn.Module]:
    return [nn.Dropout(dropout)] if dropout else []
