"""`torch.ops.axformer_lightning.keep_largest`: the choice of keys alone, where attention weights are torch's own.

Shape suffixes: ``N`` numbers that are compared, the last dimension.
"""

from typing import Any

import torch
from torch import Tensor

from axformer_lightning.kernels.library import available, load

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # by their numbers in largest.cpp
_AS_WHOLE = {4: torch.int32, 2: torch.int16}  # by bytes


def can_keep_largest(x_N: Tensor) -> bool:
    """Tell whether there is a kernel for such a tensor.

    Args:
        x_N: what the largest are chosen of, in the last dimension.

    Example:
        >>> can_keep_largest(torch.zeros(2, 3).double())
        False
    """
    return x_N.device.type == "cpu" and x_N.dtype in TYPES and available()


@torch.library.custom_op("axformer_lightning::keep_largest", mutates_args=(), device_types="cpu")
def keep_largest(x_N: Tensor, k: int, rest: float) -> Tensor:
    """Put ``rest`` in the place of all but the ``k`` largest of the last dimension, on a CPU.

    Exactly ``k`` are kept; of equal ones the first. NaN is the largest of all, as in ``torch.topk``. Gradients are
    those of what is kept, and zero where that equals ``rest``: softmax passes none on to a weight of zero.

    Args:
        x_N: floats of 32 or 16 bits, any shape with a last dimension ``N``.
        k: how many are kept; all if there are no more.
        rest: what the others become.

    Returns:
        A new tensor of the same shape and type.

    Raises:
        ValueError: if ``k`` is less than one, or the type is another.
        RuntimeError: if there is no kernel here.

    Example:
        >>> x_N = torch.tensor([0.25, 0.5, 0.25])
        >>> if can_keep_largest(x_N):
        ...     assert keep_largest(x_N, 2, 0.0).tolist() == [0.25, 0.5, 0]
    """
    x_N = x_N.contiguous()
    kept_N = torch.empty_like(x_N)
    if not _keep(x_N, kept_N, k, rest):
        kept_N.copy_(x_N)
    return kept_N


@torch.library.custom_op("axformer_lightning::keep_largest_", mutates_args=("x_N",), device_types="cpu")
def keep_largest_(x_N: Tensor, k: int, rest: float) -> None:
    """Put ``rest`` in the place of all but the ``k`` largest of the last dimension, in place and without gradients.

    Args:
        x_N: as of :func:`keep_largest`, contiguous.
        k: how many are kept; all if there are no more.
        rest: what the others become.

    Raises:
        ValueError: as `keep_largest`, and if numbers do not lie in a row in memory.
        RuntimeError: if there is no kernel here.

    Example:
        >>> x_N = torch.tensor([0.25, 0.5, 0.25])
        >>> if can_keep_largest(x_N):
        ...     keep_largest_(x_N, 2, 0.0)
        ...     assert x_N.tolist() == [0.25, 0.5, 0]
    """
    if not x_N.is_contiguous():
        raise ValueError(f"Expected a contiguous tensor, got strides {x_N.stride()}. Use `keep_largest`.")
    _keep(x_N, x_N, k, rest)


def _keep(x_N: Tensor, kept_N: Tensor, k: int, rest: float) -> bool:
    """Write what is kept, and tell so; nothing is written where all are kept."""
    if k < 1:
        raise ValueError(f"Expected `k` to be at least 1, got {k}.")
    if x_N.dtype not in TYPES:
        raise ValueError(f"Expected floats of 32 or 16 bits, got {x_N.dtype}. Call `.float()` first.")
    function = load("cpu", "keep_largest")
    if function is None:
        raise RuntimeError(
            "Expected the C++ kernel that keeps the largest, got none."
            " `python -m axformer_lightning.kernels build` says why it cannot be built here."
        )
    N = x_N.shape[-1] if x_N.dim() else 1
    if k >= N or not x_N.numel():
        return False
    bits = int(torch.tensor(rest, dtype=x_N.dtype).view(_AS_WHOLE[x_N.itemsize]))
    numbers = (TYPES[x_N.dtype], x_N.numel() // N, N, k, bits, torch.get_num_threads())
    if function(x_N.data_ptr(), kept_N.data_ptr(), *numbers):
        raise MemoryError(f"Expected memory for a row of {N} numbers, got none. Use shorter inputs.")
    return True


@keep_largest_.register_fake
def _(x_N: Tensor, k: int, rest: float) -> None:
    return None


@keep_largest.register_fake
def _(x_N: Tensor, k: int, rest: float) -> Tensor:
    return torch.empty_like(x_N, memory_format=torch.contiguous_format)


def _keep_for_gradients(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.rest = inputs[2]


def _gradients(ctx: Any, gradient_N: Tensor) -> tuple[Tensor, None, None]:
    (kept_N,) = ctx.saved_tensors
    return gradient_N.masked_fill(kept_N == ctx.rest, 0), None, None


keep_largest.register_autograd(_gradients, setup_context=_keep_for_gradients)
