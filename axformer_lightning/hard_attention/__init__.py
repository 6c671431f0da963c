"""ATTEND: attention that keeps the k largest weights of each query, layer by layer, reversibly."""

from axformer_lightning.hard_attention.attention import (
    BASES,
    TopKDropout,
    attention_of,
    keep_top_k,
    top_k_attention,
)
from axformer_lightning.hard_attention.switching import (
    IMPLEMENTATION,
    attending,
    check_can_attend_hard,
    eager_attention,
    set_hard_attention_,
)

__all__ = [
    "BASES",
    "IMPLEMENTATION",
    "TopKDropout",
    "attending",
    "attention_of",
    "check_can_attend_hard",
    "eager_attention",
    "keep_top_k",
    "set_hard_attention_",
    "top_k_attention",
]
