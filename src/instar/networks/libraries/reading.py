"""Networks of transformers that read texts themselves, with the tokenizer that they were trained with."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from instar.errors import UsageError
from instar.networks.logits import as_logits
from instar.structures import name_of_ids, num_ids
from instar.tokenising import TOKENIZER, Tokenising, texts_in, tokenising_of


class TextReader(nn.Module):
    """A network together with its tokenizer: it takes texts, in the place of ids of another tokenizer.

    Args:
        network: takes `input_ids`, `attention_mask` and perhaps `token_type_ids`.
        tokenising: its tokenizer.
        name: for messages.
    """

    reads_text = True

    def __init__(self, network: nn.Module, tokenising: Tokenising, name: str) -> None:
        super().__init__()
        self.network, self.tokenising, self.name = network, tokenising, name

    def forward(self, text: Tensor) -> Tensor:
        """Logits of texts as `tokenising.text_bytes` gives them."""
        encoded = self.tokenising.encode(texts_in(text))
        places = torch.arange(max(1, int(encoded.lengths.max())))
        lengths = torch.from_numpy(encoded.lengths)
        there = places < lengths[:, None]
        ids = torch.full(there.shape, self.tokenising.pad)
        ids[there] = torch.from_numpy(encoded.ids)
        inputs = {"input_ids": ids.to(text.device), "attention_mask": there.long().to(text.device)}
        return as_logits(self.network(**inputs), self.network)


def with_own_tokenizer(
    network: nn.Module,
    spec: str,
    files: Mapping[str, str],
    ids: Sequence[int | str],
    *,
    has_weights: bool,
    is_used: bool,
) -> nn.Module:
    """A network of texts; where its weights are of another tokenizer than the data's ids, one that reads texts.

    Args:
        network: of a folder.
        spec: what errors call it.
        files: that describe it, by name.
        ids: the form of the data's ids.
        has_weights: whether the folder has weights, which mean the ids of its own tokenizer.
        is_used: whether it is used as it is, not trained.

    Raises:
        UsageError: it is to be trained, from weights of another tokenizer, or has no embeddings for so many ids.
    """
    cure = f"--tokenizer {spec.partition(':')[2].partition('@')[0]} (data.tokenizer)"
    own = tokenising_of(files, where=spec) if TOKENIZER in files else None
    if has_weights and own is not None and own.name != name_of_ids(ids):
        if is_used:
            return TextReader(network, own, spec)
        raise UsageError(
            f"{spec} was trained with its own tokenizer ({own.name}), and the data has the ids of another one "
            f"({name_of_ids(ids)}): name its own, {cure}"
        )
    size, number = int(getattr(network.config, "vocab_size", 0)), num_ids(ids) or 0
    if size < number:
        raise UsageError(
            f"{spec} takes {size:,} ids of words, the data has {number:,}: name its tokenizer, {cure}"
        )
    return network
