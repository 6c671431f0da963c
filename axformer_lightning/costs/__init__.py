"""WEIGH: what a model or a plan costs to keep and to run."""

from axformer_lightning.costs.formula import block_macs, macs_per_token
from axformer_lightning.costs.latency import latencies_ms
from axformer_lightning.costs.measured import count_encoder_parameters, count_parameters, macs_per_sample, num_positions

__all__ = [
    "block_macs",
    "count_encoder_parameters",
    "count_parameters",
    "latencies_ms",
    "macs_per_sample",
    "macs_per_token",
    "num_positions",
]
