"""A language model that can be named: a transformer in which each token sees itself and those before it."""

from torch import Tensor, nn

from instar.errors import UsageError
from instar.networks.text_networks import AttentionBlock, PlacedEmbedding


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
