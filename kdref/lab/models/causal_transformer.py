"""A small language model, a transformer that looks back only, and drawing text from it.

Its layers are PyTorch's own. Lesson: notebooks/12_reasoning.ipynb.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["CausalTransformer", "generate", "up_to_end"]


class CausalTransformer(nn.Module):
    """Tokens and positions with a learnt vector each, layers of causal attention, scores of the next token.

    Args:
        vocabulary: Number of tokens, V.
        length: Longest sequence that it can read.
        width: Features of a token, a multiple of the heads.
        layers: Number of layers.
        heads: Attention heads per layer.
        seed: Draws the weights, leaving torch's global generator as it was.

    Example:
        >>> model = CausalTransformer(9, length=12, width=16, layers=1, seed=0)
        >>> model(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 9])
    """

    def __init__(
        self, vocabulary: int, *, length: int, width: int = 64, layers: int = 2, heads: int = 4, seed: int = 0
    ) -> None:
        """See the class."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.embed = nn.Embedding(vocabulary, width)
            self.position = nn.Parameter(torch.randn(length, width))
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(layers)
            )
            self.norm = nn.LayerNorm(width)
            self.scores = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``(B, L)`` to logits ``(B, L, V)``; those at position t are for the token after t."""
        length = tokens.shape[1]
        hidden = self.embed(tokens) + self.position[:length]
        future = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device, dtype=hidden.dtype)
        for block in self.blocks:
            hidden = block(hidden, src_mask=future, is_causal=True)
        scores: Tensor = self.scores(self.norm(hidden))
        return scores


@torch.no_grad()
def generate(
    model: Callable[[Tensor], Tensor],
    prompts: Tensor,
    *,
    max_new_tokens: int,
    end: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a completion of every prompt.

    Args:
        model: Tokens ``(B, L)`` to logits ``(B, L, V)``. Put it in eval mode first.
        prompts: Shape ``(B, L)``, all of one length.
        max_new_tokens: How many tokens to write.
        end: What follows the first end token is filled with it.
        temperature: 0 takes the likeliest token, 1 draws as the model says.
        generator: Draws the tokens. None uses torch's global one.

    Returns:
        Completions, shape ``(B, max_new_tokens)``, int64.

    Raises:
        ValueError: If the temperature is negative or nothing is to be written.

    Example:
        >>> def counts_up(tokens):
        ...     return 1e4 * nn.functional.one_hot(tokens + 1, 10)
        >>> generate(counts_up, torch.tensor([[0], [3]]), max_new_tokens=4, end=6)
        tensor([[1, 2, 3, 4],
                [4, 5, 6, 6]])
    """
    if not 0 <= temperature < float("inf") or max_new_tokens < 1:
        raise ValueError(
            f"temperature must be at least 0 and max_new_tokens at least 1, got {temperature} and {max_new_tokens}"
        )
    tokens, ended = prompts, torch.zeros_like(prompts[:, :1], dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits = model(tokens)[:, -1]
        if temperature == 0:
            drawn = logits.argmax(dim=-1, keepdim=True)
        else:
            drawn = torch.multinomial((logits.float() / temperature).softmax(dim=-1), 1, generator=generator)
        drawn = drawn.masked_fill(ended, end)
        ended = ended | (drawn == end)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens[:, prompts.shape[1] :]


def up_to_end(written: Tensor, *, end: int) -> Tensor:
    """True at every token of a completion up to and with its first end token: the mask of what was really written.

    Example:
        >>> up_to_end(torch.tensor([[4, 6, 6], [4, 5, 4]]), end=6)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """
    ends = (written == end).long()
    return ends.cumsum(dim=-1) - ends == 0
