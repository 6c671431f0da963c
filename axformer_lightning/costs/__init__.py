"""WEIGH: what a model or a plan costs to keep and to run."""

from axformer_lightning.costs.conditions import Conditions, hardware_name
from axformer_lightning.costs.formula import block_macs, macs_per_token
from axformer_lightning.costs.latency import latencies_ms
from axformer_lightning.costs.latency_table import LatencyTable
from axformer_lightning.costs.measured import (
    count_encoder_parameters,
    count_parameters,
    macs_per_sample,
    num_positions,
    uniform_batch,
)
from axformer_lightning.costs.plans import (
    Cost,
    block_cost,
    cost_of_layers,
    encoder_parameters,
    encoder_size_ratio,
    file_bytes,
    file_size_ratio,
    rest_cost,
)
from axformer_lightning.costs.sizes import BlockSize, LayerSize, Sizes, layer_sizes, sizes_of

__all__ = [
    "BlockSize",
    "Conditions",
    "Cost",
    "LatencyTable",
    "LayerSize",
    "Sizes",
    "block_cost",
    "block_macs",
    "cost_of_layers",
    "count_encoder_parameters",
    "count_parameters",
    "encoder_parameters",
    "encoder_size_ratio",
    "file_bytes",
    "file_size_ratio",
    "hardware_name",
    "latencies_ms",
    "layer_sizes",
    "macs_per_sample",
    "macs_per_token",
    "num_positions",
    "rest_cost",
    "sizes_of",
    "uniform_batch",
]
