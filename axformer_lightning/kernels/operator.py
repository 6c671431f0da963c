"""`torch.ops.axformer_lightning.hard_attention`: the kernels as one operator that torch.compile and torch.export know.

Shape suffixes: ``B`` batch, ``H`` heads, ``Q`` queries, ``K`` keys, ``D`` width of a head, ``E`` width of a value.
"""

import ctypes

import torch
from torch import Tensor

from axformer_lightning.kernels.library import load

NONE, BOOLEAN, ADDED = 0, 1, 2  # kinds of masks
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.bfloat16, torch.float16)}
# On a GPU. The scores of 16 queries and so many keys fit the registers of a program (twice as many
# are put into memory in part, and fetched 32 times); tiles of 64 keys with so many features fit its shared memory.
MOST_KEYS, MOST_FEATURES = 1024, 256


def can_attend(query_BHQD: Tensor, key_BHKD: Tensor, value_BHKE: Tensor) -> bool:
    """Tell whether the kernel of their device, if it has one, takes such tensors.

    Args:
        query_BHQD: queries.
        key_BHKD: keys.
        value_BHKE: values.

    Example:
        >>> x_BHTD = torch.zeros(1, 2, 9, 4)
        >>> can_attend(x_BHTD, x_BHTD, x_BHTD), can_attend(x_BHTD.double(), x_BHTD, x_BHTD)
        (True, False)
    """
    device, dtype = query_BHQD.device, query_BHQD.dtype
    return (
        dtype in DTYPES.get(device.type, ())
        and all(x.dtype == dtype and x.device == device for x in (key_BHKD, value_BHKE))
        # What is exported runs at other lengths, too, so that of the example decides nothing.
        and (device.type == "cpu" or torch.compiler.is_exporting() or key_BHKD.shape[2] <= MOST_KEYS)
        and (device.type == "cpu" or max(query_BHQD.shape[-1], value_BHKE.shape[-1]) <= MOST_FEATURES)
    )


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
    """Attend with the ``k`` largest weights of each query, without gradients: in float32 on a CPU, or on a GPU.

    On a GPU half precision is taken, too; scores and sums are float32 then. The result is that of softmax, ``topk``
    and a product with the values up to rounding. Exactly ``k`` weights are kept; of equal ones those of the first keys.

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
        ValueError: if shapes do not fit, a tensor is of another type, ``k`` is less than one, or a GPU is given more
            than 1024 keys or 256 features of a head.
        RuntimeError: if there is no kernel here.

    Source: arXiv 2010.03688, section 3.3.

    Example:
        >>> from axformer_lightning.kernels import available
        >>> x_BHQD = torch.randn(1, 2, 9, 4)
        >>> if available():
        ...     assert hard_attention(x_BHQD, x_BHQD, x_BHQD, None, 3, 0.5, False).shape == (1, 9, 2, 4)
    """
    function = load("cpu")
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


@hard_attention.register_kernel("cuda")
def _(
    query_BHQD: Tensor, key_BHKD: Tensor, value_BHKE: Tensor, mask: Tensor | None, k: int, scaling: float, renorm: bool
) -> Tensor:
    attend = load("cuda")
    if attend is None:
        raise RuntimeError("Expected the Triton kernel of hard attention, got none. The log says what it needs.")
    _, _, _, K, D, E = _check(query_BHQD, key_BHKD, value_BHKE, k)
    if K > MOST_KEYS or max(D, E) > MOST_FEATURES:
        raise ValueError(
            f"Expected at most {MOST_KEYS} keys and {MOST_FEATURES} features of a head on a GPU, got {K} and"
            f" {max(D, E)}. Attend, or export, inside `axformer_lightning.kernels.switched_off()`."
        )
    context_BQHE: Tensor = attend(query_BHQD, key_BHKD, value_BHKE, mask, k, scaling, renorm)
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
    dtypes = DTYPES[query_BHQD.device.type]
    if query_BHQD.dtype not in dtypes or any(x.dtype != query_BHQD.dtype for x in tensors):
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"Expected {names}, got {[x.dtype for x in tensors]}. Call `model.float()` first.")
    B, H, Q, D = shapes[0] if len(shapes[0]) == 4 else (0, 0, 0, 0)
    K, E = (*shapes[2], 0, 0)[2:4]
    if shapes != [(B, H, Q, D), (B, H, K, D), (B, H, K, E)]:
        raise ValueError(f"Expected (B, H, Q, D), (B, H, K, D) and (B, H, K, E), got {shapes}. Repeat shared heads.")
    if k < 1:
        raise ValueError(f"Expected `k` to be at least 1, got {k}. Soft attention keeps all: give the number of keys.")
    return B, H, Q, K, D, E


def _numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)
