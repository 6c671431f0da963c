"""ROUND: linear layers and embeddings that compute as int8 does, block by block, reversibly."""

from axformer_lightning.int8.calibrating import Observed, observing
from axformer_lightning.int8.layers import Int8Embedding, Int8Linear
from axformer_lightning.int8.packing import pack, unpack
from axformer_lightning.int8.setting import (
    all_in_int8,
    check_can_be_int8,
    has_embeddings,
    int8_modules,
    int8_ranges,
    rounding,
    set_int8_,
)

__all__ = [
    "Int8Embedding",
    "Int8Linear",
    "Observed",
    "all_in_int8",
    "check_can_be_int8",
    "has_embeddings",
    "int8_modules",
    "int8_ranges",
    "observing",
    "pack",
    "rounding",
    "set_int8_",
    "unpack",
]
