"""Attention among the vectors of a row: of towers in a backbone, of columns in a table tower, of events, of words."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def check_heads(width: int, heads: int, name: str = "dim") -> None:
    """Refuse heads that cannot share a width.

    Args:
        width: Of the vectors.
        heads: Of the attention.
        name: What the width is called in the spec.

    Raises:
        ValueError: If the width is no multiple of the heads.
    """
    if width % heads:
        fitting = [str(count) for count in range(1, 17) if width % count == 0]
        raise ValueError(
            f"the heads of an attention share its {name}; received {name}: {width} and heads: {heads}. Use heads: "
            f"{' or '.join(', '.join(fitting).rsplit(', ', 1))}, or another {name}."
        )


class Block(nn.Module):
    """One layer of a transformer: self-attention, then two linear layers, each beside a way around (pre-norm).

    Args:
        dim: Width of the vectors.
        heads: Of the attention; they share the width.
        dropout: Share of attention weights and hidden units dropped in training.
        hidden: Width between the two linear layers.
        causal: A vector attends to itself and to those before it alone.

    Reference: Vaswani et al., 2017 (arXiv 1706.03762); pre-norm as of Xiong et al., ICML 2020 (arXiv 2002.04745).
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float = 0.0, hidden: int | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.asked, self.answer = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        hidden = hidden or 2 * dim
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """``[batch, tokens, dim]`` to the same.

        Args:
            tokens: The vectors.
            present: ``[batch, tokens]`` false where one is padding, which no other attends to; one of each row is present.
        """
        tokens = tokens + self._attend(self.before(tokens), present)
        return tokens + self.mlp(self.between(tokens))

    def _attend(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        batch, count, dim = tokens.shape
        asked = self.asked(tokens).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, dim / heads] each
        dropped = self.dropout if self.training else 0.0
        mask = None if present is None else present[:, None, None, :]
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropped, is_causal=self.causal
        )
        return self.answer(found.transpose(1, 2).reshape(batch, count, dim))
