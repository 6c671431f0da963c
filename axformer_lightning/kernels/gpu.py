"""Hard attention on GPUs, in Triton: a program attends for 16 queries, whose scores stay in its registers.

Triton compiles it at first use, once for each kind of tensors, and keeps it in a cache directory of its own. It cannot
take single keys out of registers, so scores lie there as tiles: one is put in, or taken out, by a choice over all.

Shape suffixes: ``B`` batch, ``H`` heads, ``Q`` queries, ``K`` keys, ``D`` width of a head, ``E`` width of a value; in a
program ``R`` queries, ``N`` keys, which are ``T`` tiles of ``S``. All but the first four are rounded up in a program.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # of a tensor core
TILE = 64  # with 256 features in float32, 64 KiB of shared memory: all GPUs have that
MASKED = tl.constexpr(torch.finfo(torch.float32).min)


def attend(
    query_BHQD: Tensor,
    key_BHKD: Tensor,
    value_BHKE: Tensor,
    mask: Tensor | None,
    k: int,
    scaling: float,
    renormalize: bool,
) -> Tensor:
    """Attend as :func:`axformer_lightning.kernels.hard_attention` does, which checks its arguments."""
    B, H, Q, D = query_BHQD.shape
    K, E = value_BHKE.shape[2:]
    context_BQHE = query_BHQD.new_empty((B, Q, H, E))
    mask_BHQK = None if mask is None else mask.expand(B, H, Q, K)
    tiles = triton.next_power_of_2(triton.cdiv(K, TILE))
    with torch.cuda.device_of(query_BHQD):  # Triton runs on the current one
        _attend[(B * H * triton.cdiv(Q, ROWS),)](
            query_BHQD,
            key_BHKD,
            value_BHKE,
            mask_BHQK,
            context_BQHE,
            query_BHQD.stride(),
            key_BHKD.stride(),
            value_BHKE.stride(),
            None if mask_BHQK is None else mask_BHQK.stride(),
            H,
            Q,
            K,
            min(k, K),
            scaling,
            width=D,
            value_width=E,
            added=mask is not None and mask.dtype != torch.bool,
            renormalize=renormalize,
            R=ROWS,
            T=tiles,
            S=TILE,
            D=max(16, triton.next_power_of_2(D)),
            E=max(16, triton.next_power_of_2(E)),
            num_warps=max(4, tiles),  # so that a thread has at most 32 scores
            num_stages=1,
            enable_fp_fusion=True,
        )
    return context_BQHE


@triton.jit
def _attend(
    query,
    key,
    value,
    mask,
    context,
    query_strides,
    key_strides,
    value_strides,
    mask_strides,
    num_heads,
    num_queries,
    num_keys,
    k,
    scaling,
    width: tl.constexpr,
    value_width: tl.constexpr,
    added: tl.constexpr,
    renormalize: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    S: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
):
    blocks = tl.cdiv(num_queries, R)
    unit, r = tl.program_id(0) // blocks, tl.program_id(0) % blocks * R + tl.arange(0, R)[:, None]
    b, h = (unit // num_heads).to(tl.int64), (unit % num_heads).to(tl.int64)  # large tensors have far addresses
    d, e = tl.arange(0, D), tl.arange(0, E)[None, :]
    tile = tl.arange(0, T)[None, :, None]
    query += b * query_strides[0] + h * query_strides[1] + r * query_strides[2] + d[None, :] * query_strides[3]
    key += b * key_strides[0] + h * key_strides[1] + d[:, None] * key_strides[3]
    value += b * value_strides[0] + h * value_strides[1] + e * value_strides[3]
    if mask is not None:
        mask += b * mask_strides[0] + h * mask_strides[1] + r * mask_strides[2]

    query_RD = tl.load(query, (r < num_queries) & (d[None, :] < width), 0.0)
    scores_RTS = tl.full([R, T, S], float("-inf"), tl.float32)
    for t in range(tl.cdiv(num_keys, S)):
        n_1S = t * S + tl.arange(0, S)[None, :]
        key_DS = tl.load(key + n_1S * key_strides[2], (n_1S < num_keys) & (d[:, None] < width), 0.0)
        scores_RS = tl.dot(query_RD, key_DS, input_precision="ieee") * scaling
        if mask is not None:
            mask_RS = tl.load(mask + n_1S * mask_strides[3], (r < num_queries) & (n_1S < num_keys), 0)
            scores_RS = scores_RS + mask_RS.to(tl.float32) if added else tl.where(mask_RS, scores_RS, MASKED)
        scores_RS = tl.where(n_1S < num_keys, scores_RS, float("-inf"))  # what is no key comes after all keys
        scores_RTS = tl.where(tile == t, scores_RS[:, None, :], scores_RTS)

    scores_RN = tl.reshape(scores_RTS, [R, T * S])
    least_R1 = _kth_largest(scores_RN, k)
    above_RN, equal_RN = scores_RN > least_R1, scores_RN == least_R1
    room_R1 = k - tl.sum(above_RN.to(tl.int32), 1, keep_dims=True)
    kept_RN = above_RN | (equal_RN & (tl.cumsum(equal_RN.to(tl.int32), 1) <= room_R1))
    weights_RN = tl.exp(scores_RN - tl.max(scores_RN, 1, keep_dims=True))
    total_R1 = tl.sum(weights_RN, 1, keep_dims=True)
    weights_RN = tl.where(kept_RN, weights_RN, 0.0)
    if renormalize:  # NaN among the scores makes all of the query NaN, as softmax does
        total_R1 = tl.sum(weights_RN, 1, keep_dims=True) + total_R1 * 0

    weights_RTS = tl.reshape(weights_RN, [R, T, S])
    context_RE = tl.zeros([R, E], tl.float32)
    for t in range(tl.cdiv(num_keys, S)):
        n_S1 = t * S + tl.arange(0, S)[:, None]
        value_SE = tl.load(value + n_S1 * value_strides[2], (n_S1 < num_keys) & (e < value_width), 0.0)
        weights_RS = tl.sum(tl.where(tile == t, weights_RTS, 0.0), 1).to(value_SE.dtype)
        context_RE = tl.dot(weights_RS, value_SE, context_RE, input_precision="ieee")
    context += ((b * num_queries + r) * num_heads + h) * value_width + e
    tl.store(context, context_RE / total_R1, (r < num_queries) & (e < value_width))


@triton.jit
def _kth_largest(scores_RN, k):
    """Find the k-th largest score of each row, exactly: its bits, from the highest, as far as k scores reach them."""
    bits_R1 = tl.zeros([scores_RN.shape[0], 1], tl.uint32)
    for i in range(32):
        more_R1 = bits_R1 | (tl.full([1, 1], 0x80000000, tl.uint32) >> i)
        reached_R1 = tl.sum((scores_RN >= _float_of(more_R1)).to(tl.int32), 1, keep_dims=True) >= k
        bits_R1 = tl.where(reached_R1, more_R1, bits_R1)
    return _float_of(bits_R1)


@triton.jit
def _float_of(bits):
    """Turn whole numbers into floats of the same order; minus infinity is the first, as those before it are NaN."""
    bits = tl.maximum(bits, 0x007FFFFF)
    return tl.where(bits >= 0x80000000, bits ^ 0x80000000, ~bits).to(tl.float32, bitcast=True)
