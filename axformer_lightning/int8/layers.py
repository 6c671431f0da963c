"""Linear layers and embeddings that compute as int8 does.

Their weights are floats, as training and optimizers need them, and are rounded in each call: what an engine of int8
computes, at the speed of floats. Speed and size come with the exported and the saved file.
"""

from torch import Tensor, nn
from torch.nn import functional

from axformer_lightning.int8.rounding import rounded_activations, rounded_rows, rounded_weight


class Int8Linear(nn.Linear):
    """A linear layer whose weights, and what it reads, are rounded to 8 bits.

    Attributes:
        int8_range: of what it reads, zero among it; None where each call finds its own.

    Example:
        >>> import torch
        >>> layer = Int8Linear(2, 1, bias=False)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.27, -0.304]]))
        >>> layer(torch.tensor([[0.0, 2.55]]))
        tensor([[-0.7650]], grad_fn=<MmBackward0>)
    """

    int8_range: tuple[float, float] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives, both factors rounded."""
        return functional.linear(rounded_activations(x, self.int8_range), rounded_weight(self.weight), self.bias)


class Int8Embedding(nn.Embedding):
    """An embedding whose rows are rounded to 8 bits, each with a step of its own."""

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ``ids``, rounded."""
        return rounded_rows(super().forward(ids))


ROUNDED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Int8Linear, nn.Embedding: Int8Embedding}
PLAIN = {rounded: plain for plain, rounded in ROUNDED.items()}
