"""The grids of int8: symmetric for weights, with a step for each row; asymmetric for activations, with one for all.

They are those of ONNX Runtime (dynamic or static quantization, weights per channel), so that a search decides on what
the exported model computes, but for the rounding of sums.

Shape suffixes: ``O`` rows of a weight, ``I`` its columns.
"""

import torch
from torch import Tensor

LEVELS = 127  # of weights, on each side of zero: a weight and its negative round alike
STEPS = 255  # from the least activation to the largest
STEP_BITS = 16  # of a weight's step: all its multiples are exact in float32, which has 24


def weight_steps(weight_OI: Tensor) -> Tensor:
    """Return the step of the grid of each row, shape ``(O, 1)``; 127 of them reach its largest weight.

    Steps are rounded up to 16 bits. So weights that are on a grid keep it: they can be rounded, stored and read as
    often as one likes and stay the same to the bit.

    Example:
        >>> weight_steps(torch.tensor([[1.27, -0.3], [0.0, 0.0]]))
        tensor([[0.0100],
                [1.0000]])
    """
    exact_O1 = weight_OI.detach().float().abs().amax(dim=1, keepdim=True) / LEVELS
    mantissa_O1, exponent_O1 = torch.frexp(exact_O1)
    step_O1 = torch.ldexp(torch.ceil(mantissa_O1 * 2**STEP_BITS) / 2**STEP_BITS, exponent_O1)
    return torch.where(exact_O1 == 0, torch.ones_like(exact_O1), step_O1)


def to_int8(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights as int8, and the steps that they are multiples of, shape ``(O, 1)``."""
    step_O1 = weight_steps(weight_OI)
    return torch.round(weight_OI.detach().float() / step_O1).to(torch.int8), step_O1


def rounded_weight(weight_OI: Tensor) -> Tensor:
    """Return weights on their grid; gradients pass as if nothing had been rounded.

    Source: straight-through gradients as in arXiv 1910.06188 (Q8BERT), section 3.

    Example:
        >>> rounded_weight(torch.tensor([[1.27, -0.304]]))
        tensor([[ 1.2700, -0.3000]])
    """
    step_O1 = weight_steps(weight_OI)
    return _straight_through(weight_OI, torch.round(weight_OI.detach().float() / step_O1) * step_O1)


def rounded_rows(rows: Tensor) -> Tensor:
    """Return rows of a table on their grids; the last dimension holds the whole of each."""
    return rounded_weight(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape)


def rounded_activations(x: Tensor, range_: tuple[float, float] | None = None) -> Tensor:
    """Return activations on a grid of 256 values from the least to the largest, zero included.

    Args:
        x: of any shape.
        range_: the least and the largest, zero between them, as of `QuantizeLinear` of ONNX: what is outside becomes
            one of the two. By default those of the whole tensor, as of `DynamicQuantizeLinear`, so what else is in a
            batch counts.

    Example:
        >>> rounded_activations(torch.tensor([-1.0, 0.0, 0.5, 1.55]))
        tensor([-1.0000,  0.0000,  0.5000,  1.5500])
        >>> rounded_activations(torch.tensor([-1.0, 0.0, 0.5, 1.55]), (0.0, 1.275))
        tensor([0.0000, 0.0000, 0.5000, 1.2750])
    """
    now = x.detach().float()
    if not now.numel():
        return x
    step, zero = grid_of(*(torch.aminmax(now) if range_ is None else now.new_tensor(range_)))
    return _straight_through(x, (torch.clamp(torch.round(now / step) + zero, 0, STEPS) - zero) * step)


def grid_of(least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step of the grid of activations of a range, and which of its 256 values is zero.

    Example:
        >>> grid_of(torch.tensor(-1.0), torch.tensor(1.55))
        (tensor(0.0100), tensor(100.))
    """
    least, most = least.clamp(max=0), most.clamp(min=0)
    step = (most - least) / STEPS
    step = torch.where(step == 0, torch.ones_like(step), step)
    return step, torch.round(-least / step).clamp(0, STEPS)


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    rounded = rounded.to(x.dtype)
    if torch.is_grad_enabled() and x.requires_grad:
        return x + (rounded - x).detach()
    return rounded
