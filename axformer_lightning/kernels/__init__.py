"""COMPILE: hard attention in C++ and Triton, built here at first use; without a compiler nothing is lost but time."""

from axformer_lightning.kernels.building import BuildError, build, cache_directory
from axformer_lightning.kernels.largest import can_keep_largest, keep_largest, keep_largest_
from axformer_lightning.kernels.library import available, switched_off
from axformer_lightning.kernels.operator import can_attend, hard_attention

__all__ = [
    "BuildError",
    "available",
    "build",
    "cache_directory",
    "can_attend",
    "can_keep_largest",
    "hard_attention",
    "keep_largest",
    "keep_largest_",
    "switched_off",
]
