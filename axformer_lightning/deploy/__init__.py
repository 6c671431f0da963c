"""USE: what a model costs to keep and to run."""

from axformer_lightning.deploy.cost import count_encoder_parameters, count_parameters, macs_per_sample, num_positions
from axformer_lightning.deploy.latency import latencies_ms

__all__ = ["count_encoder_parameters", "count_parameters", "latencies_ms", "macs_per_sample", "num_positions"]
