"""Attention that keeps the k largest weights of each query, as an attention function and as a dropout.

A model of sdpa attends by a kernel where no gradient is needed, as sdpa puts out no weights either. With eager
attention, and so in every search, weights are computed by torch, as rounding must not decide between candidates; only
the choice of the largest, which rounds nothing, is a kernel's there.

Shape suffixes: ``B`` batch, ``H`` heads, ``Q`` queries, ``K`` keys, ``D`` width of a head.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention

BASES = ("eager", "sdpa")
EAGER = "eager_attention_forward"  # what transformers calls it in each of its files


def check_base(name: str) -> None:
    """Raise unless hard layers may stand among soft ones of an attention implementation.

    The masks are made for that implementation; those of others mean something else, or there are none.

    Raises:
        ValueError: if it is neither eager nor sdpa.

    Example:
        >>> check_base("flash_attention_2")
        Traceback (most recent call last):
        ValueError: Expected an attention implementation out of ('eager', 'sdpa') for hard attention, got ...
    """
    if name not in BASES:
        raise ValueError(
            f"Expected an attention implementation out of {BASES} for hard attention, got {name!r}."
            ' Call `model.set_attn_implementation("sdpa")` first.'
        )


def keep_top_k(weights_BHQK: Tensor, k: int) -> Tensor:
    """Zero all but the ``k`` largest weights of each query; the rest are not rescaled.

    Source: arXiv 2010.03688, section 3.3, and the authors' code.

    Example:
        >>> keep_top_k(torch.tensor([[[[0.1, 0.6, 0.3]]]]), k=2)
        tensor([[[[0.0000, 0.6000, 0.3000]]]])
    """
    return _scatter_top(weights_BHQK, k, 0.0)


def _scatter_top(x_BHQK: Tensor, k: int, rest: float, in_place: bool = False) -> Tensor:
    """Put ``rest`` in the place of all but the ``k`` largest values of the last dimension, ``in_place`` if it may."""
    num_keys = x_BHQK.shape[-1]
    if _is_recorded():  # for any number of keys, also below k: as many more are there that count for nothing
        x_BHQK = nn.functional.pad(x_BHQK, (0, k), value=rest)
    elif kernels.can_keep_largest(x_BHQK):
        if in_place and x_BHQK.is_contiguous():
            kernels.keep_largest_(x_BHQK, k, rest)
            return x_BHQK
        kept_BHQK: Tensor = kernels.keep_largest(x_BHQK, k, rest)
        return kept_BHQK
    else:
        k = min(k, num_keys)
    top = x_BHQK.topk(k, dim=-1, sorted=False)
    return torch.full_like(x_BHQK, rest).scatter(-1, top.indices, top.values)[..., :num_keys]


def _is_recorded() -> bool:
    """Tell whether a graph is made that is run with other shapes later, so that no shape may decide anything."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]


def top_k_attention(
    module: nn.Module,
    query_BHQD: Tensor,
    key_BHKD: Tensor,
    value_BHKD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend with the ``k`` largest weights of each query, or as the model does if there are at most ``k`` keys.

    An attention function for transformers. Settings and the model's config are read from ``module``, where
    :func:`set_hard_attention_` put them.

    Args:
        module: the calling attention module.
        query_BHQD: queries.
        key_BHKD: keys.
        value_BHKD: values.
        attention_mask: additive floats, or booleans that are True where a key may be attended to, which eager models
            add as 0 and 1 all the same; broadcasts to ``(B, H, Q, K)``.
        scaling: factor of the scores; ``D ** -0.5`` by default.
        dropout: probability with which a weight is dropped, before the k largest are chosen (as the authors do).
        kwargs: passed on where attention is soft.

    Returns:
        The contexts, shape ``(B, Q, H, D)``, and the weights, shape ``(B, H, Q, K)``, or None where no one needs them.

    Raises:
        ValueError: if the model's attention implementation has become another than eager and sdpa.
    """
    base: str = module.axformer_config._attn_implementation  # type: ignore[union-attr, assignment]
    check_base(base)
    settings: HardAttention = module.axformer_hard_attention  # type: ignore[assignment]
    scaling = scaling or query_BHQD.shape[-1] ** -0.5
    by_kernel = _by_kernel(module, query_BHQD, key_BHKD, value_BHKD, dropout, kwargs)
    if by_kernel and (torch.compiler.is_exporting() or key_BHKD.shape[2] > settings.k):
        # What is exported runs at other lengths, too, and the kernel keeps all of up to k keys.
        tensors = query_BHQD, key_BHKD, value_BHKD, attention_mask
        return kernels.hard_attention(*tensors, settings.k, scaling, settings.renormalize), None
    if not _is_recorded() and key_BHKD.shape[2] <= settings.k:
        tensors = query_BHQD, key_BHKD, value_BHKD, attention_mask
        soft: tuple[Tensor, Tensor | None]
        soft = _soft_attention(module)(module, *tensors, scaling=scaling, dropout=dropout, **kwargs)
        return soft
    scores_BHQK = query_BHQD @ key_BHKD.transpose(2, 3)
    # New tensors of this size take as long to get as to compute, so what nobody else holds is written over.
    in_place = not scores_BHQK.requires_grad and not _is_recorded()
    scores_BHQK = scores_BHQK.mul_(scaling) if in_place else scores_BHQK * scaling
    lowest = torch.finfo(scores_BHQK.dtype).min
    # Eager models of transformers add booleans, too, if a caller makes some; a hard layer does as the soft ones do.
    if attention_mask is not None and attention_mask.dtype == torch.bool and base != "eager":
        scores_BHQK = scores_BHQK.masked_fill(~attention_mask, lowest)
    elif attention_mask is not None:
        add = Tensor.add_ if in_place and attention_mask.dtype == scores_BHQK.dtype else Tensor.add
        scores_BHQK = add(scores_BHQK, attention_mask)
    if settings.renormalize:
        scores_BHQK = _scatter_top(scores_BHQK, settings.k, -torch.inf, in_place)
    weights_BHQK = nn.functional.softmax(scores_BHQK, dim=-1)
    weights_BHQK = nn.functional.dropout(weights_BHQK, p=dropout, training=module.training)
    if not settings.renormalize:
        weights_BHQK = _scatter_top(weights_BHQK, settings.k, 0.0, in_place)
    return (weights_BHQK @ value_BHKD).transpose(1, 2).contiguous(), weights_BHQK


class TopKDropout(nn.Module):
    """Dropout of attention weights that also keeps only the ``k`` largest of each query.

    Args:
        soft: the dropout that this one replaces.
        settings: how many weights a query keeps, and whether they are scaled to sum to one.

    Example:
        >>> TopKDropout(nn.Dropout(), HardAttention(k=1)).eval()(torch.tensor([[[[0.1, 0.6, 0.3]]]]))
        tensor([[[[0.0000, 0.6000, 0.0000]]]])
    """

    def __init__(self, soft: nn.Module, settings: HardAttention) -> None:
        super().__init__()
        self.train(soft.training)
        self.soft = soft
        self.axformer_hard_attention = settings

    def forward(self, weights_BHQK: Tensor) -> Tensor:
        """Return the weights after dropout, and hard if there are more than ``k`` keys."""
        settings = self.axformer_hard_attention
        dropped: Tensor
        if not _is_recorded() and weights_BHQK.shape[-1] <= settings.k:
            dropped = self.soft(weights_BHQK)
        elif settings.renormalize:
            kept_BHQK = keep_top_k(weights_BHQK, settings.k)
            dropped = self.soft(kept_BHQK / kept_BHQK.sum(-1, keepdim=True))
        else:
            dropped = keep_top_k(self.soft(weights_BHQK), settings.k)
        return dropped


def _by_kernel(
    module: nn.Module, query_BHQD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, dropout: float, asked: dict[str, Any]
) -> bool:
    """Tell whether a kernel may attend: it computes neither weights nor gradients, and takes not every type."""
    if torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False  # these formats know torch's operators only
    config: Any = module.axformer_config
    tensors = (query_BHQD, key_BHKD, value_BHKD)
    return (
        config._attn_implementation == "sdpa"
        and not (asked.get("output_attentions") or getattr(config, "output_attentions", False))
        and not (dropout and module.training)
        and kernels.can_attend(*tensors)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and kernels.available(query_BHQD.device.type)
    )


def _soft_attention(module: nn.Module) -> Any:
    name: str = module.axformer_config._attn_implementation  # type: ignore[union-attr, assignment]
    return attention_of(module, name)


def attention_of(module: nn.Module, name: str) -> Any:
    """Return the attention function of a name for an attention module; each file of transformers has its own eager one.

    The module may be of a user's class that derives from one of transformers.
    """
    found = (getattr(sys.modules.get(kind.__module__), EAGER, None) for kind in type(module).__mro__)
    eager: Any = next(filter(None, found), None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
