"""`torch.ops.axformer_lightning.hard_attention`: the kernel as an operator that torch.compile and torch.export know.

Shape suffixes: ``B`` batch, ``H`` heads, ``Q`` queries, ``K`` keys, ``D`` width of a head, ``E`` width of a value.
"""

import ctypes

import torch
from torch import Tensor

from axformer_lightning.kernels.library import load

NONE, BOOLEAN, ADDED = 0, 1, 2  # kinds of masks


@torch.library.custom_op("axformer_lightning::hard_attention", mutates_args=(), device_types="cpu")
def hard_attention(
    query_BHQD: Tensor,
    key_BHKD: Tensor,
    value_BHKE: Tensor,
    mask: Tensor | None,
    k: int,
    scaling: float,
    renormalize: bool,
) -> Tensor:
    """Attend with the ``k`` largest weights of each query; without gradients, in float32, on a CPU.

    The result is that of softmax, ``topk`` and a product with the values up to rounding. Exactly ``k`` weights are
    kept; of equal ones those of the first keys.

    Args:
        query_BHQD: queries, shape ``(B, H, Q, D)``.
        key_BHKD: keys, shape ``(B, H, K, D)``.
        value_BHKE: values, shape ``(B, H, K, E)``.
        mask: booleans that are True where a key may be attended to, or floats that are added to the scores;
            broadcasts to ``(B, H, Q, K)``.
        k: how many weights a query keeps; all if there are no more keys.
        scaling: factor of the scores.
        renormalize: whether the kept weights are scaled to sum to one.

    Returns:
        The contexts, shape ``(B, Q, H, E)``.

    Raises:
        ValueError: if shapes do not fit, a tensor is not float32, or ``k`` is less than one.
        RuntimeError: if the library cannot be built here.

    Source: arXiv 2010.03688, section 3.3.

    Example:
        >>> from axformer_lightning.kernels import available
        >>> x_BHQD = torch.randn(1, 2, 9, 4)
        >>> if available():
        ...     assert hard_attention(x_BHQD, x_BHQD, x_BHQD, None, 3, 0.5, False).shape == (1, 9, 2, 4)
    """
    function = load()
    if function is None:
        raise RuntimeError(
            "Expected the C++ kernel of hard attention, got none."
            " `python -m axformer_lightning.kernels build` says why it cannot be built here."
        )
    shape = _check(query_BHQD, key_BHKD, value_BHKE, k)
    B, H, Q, K, _, E = shape
    query_BHQD, key_BHKD, value_BHKE = (
        x if x.stride(-1) == 1 else x.contiguous() for x in (query_BHQD, key_BHKD, value_BHKE)
    )
    kind, strides = NONE, [0] * 4
    if mask is not None:
        kind = BOOLEAN if mask.dtype == torch.bool else ADDED
        mask = (mask if kind == BOOLEAN else mask.float()).expand(B, H, Q, K)
        strides = [*mask.stride()]
    context_BQHE = query_BHQD.new_empty((B, Q, H, E))
    failed = function(
        query_BHQD.data_ptr(),
        key_BHKD.data_ptr(),
        value_BHKE.data_ptr(),
        None if mask is None else mask.data_ptr(),
        context_BQHE.data_ptr(),
        _numbers(*shape),
        _numbers(*(n for x in (query_BHQD, key_BHKD, value_BHKE) for n in x.stride()[:3]), *strides),
        kind,
        min(k, K),
        scaling,
        renormalize,
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"Expected memory for the scores of {K} keys, got none. Use shorter inputs.")
    return context_BQHE


@hard_attention.register_fake
def _(
    query_BHQD: Tensor, key_BHKD: Tensor, value_BHKE: Tensor, mask: Tensor | None, k: int, scaling: float, renorm: bool
) -> Tensor:
    B, H, Q, _ = query_BHQD.shape
    return query_BHQD.new_empty((B, Q, H, value_BHKE.shape[-1]))


def _check(query_BHQD: Tensor, key_BHKD: Tensor, value_BHKE: Tensor, k: int) -> tuple[int, ...]:
    tensors = (query_BHQD, key_BHKD, value_BHKE)
    shapes = [tuple(x.shape) for x in tensors]
    if any(x.dtype != torch.float32 for x in tensors):
        raise ValueError(f"Expected float32, got {[x.dtype for x in tensors]}. Call `model.float()` first.")
    B, H, Q, D = shapes[0] if len(shapes[0]) == 4 else (0, 0, 0, 0)
    K, E = (*shapes[2], 0, 0)[2:4]
    if shapes != [(B, H, Q, D), (B, H, K, D), (B, H, K, E)]:
        raise ValueError(f"Expected (B, H, Q, D), (B, H, K, D) and (B, H, K, E), got {shapes}. Repeat shared heads.")
    if k < 1:
        raise ValueError(f"Expected `k` to be at least 1, got {k}. Soft attention keeps all: give the number of keys.")
    return B, H, Q, K, D, E


def _numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)
