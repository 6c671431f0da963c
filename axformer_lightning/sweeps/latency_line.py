"""The time of any plan from that of a dozen: a line of five numbers for an engine, a batch and a length."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import nnls

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.costs import Conditions, LatencyTable

KINDS = ("attention", "feed_forward")
FEWEST = 8  # times of which five numbers are found with something to spare


def fit_latency_line(conditions: Conditions, times: Mapping[Sequence[LayerPlan], float]) -> LatencyTable:
    """Return the latency table that comes nearest to measured times of whole cut models.

    A model takes what it takes without blocks, and for each block a time for being there and one for each unit. The
    five numbers are not negative, and relative errors are least (least squares). Blocks that are timed alone have
    their weights in cache and pay for dispatch otherwise than in a model, so whole models are measured.

    Args:
        conditions: of the measurement; its `engine` says what ran the models.
        times: milliseconds by what is left of each layer; attention may not be hard.

    Raises:
        ValueError: if there are fewer than eight times, or not all are positive numbers.

    Example:
        >>> at = Conditions("a CPU", "2.13", 1, "torch.float32", "sdpa", "bert", 1, 4, 8, 16, batch_size=1, tokens=8)
        >>> plans = [
        ...     (LayerPlan(heads_removed=tuple(range(heads)), neurons_removed=((0, gone),) if gone else ()),)
        ...     for heads in (0, 1, 3) for gone in (0, 4, 12)
        ... ]
        >>> plans.append((LayerPlan("removed", (), "removed"),))
        >>> def ms(layers):
        ...     heads, neurons = len(layers[0].kept_heads(4)), len(layers[0].kept_neurons(16))
        ...     return 1.0 + (0.5 + 0.25 * heads + 0.125 * neurons if neurons else 0.0)
        >>> table = fit_latency_line(at, {layers: ms(layers) for layers in plans})
        >>> round(table.predict_ms([LayerPlan()]), 3)
        4.5
    """
    if len(times) < FEWEST:
        raise ValueError(f"Expected the times of at least {FEWEST} plans, got {len(times)}. Measure more of them.")
    ms = np.array([*times.values()])
    if not (np.isfinite(ms) & (ms > 0)).all():
        raise ValueError(f"Expected times above 0, got {ms.min():.4g} to {ms.max():.4g}. Measure them again.")
    rows = np.array([_row(conditions, layers) for layers in times])
    (rest, *costs), _ = nnls(rows / ms[:, None], np.ones(len(ms)))
    units = (conditions.num_heads, conditions.intermediate_size)
    blocks = {
        kind: ((0, float(there)), (count, float(there + each * count)))
        for kind, count, there, each in zip(KINDS, units, costs[::2], costs[1::2], strict=True)
    }
    return LatencyTable(conditions, float(rest), blocks)


def _row(conditions: Conditions, layers: Sequence[LayerPlan]) -> list[float]:
    """Return what the five numbers are multiplied by: 1, and of each kind the blocks and the units that are left."""
    heads = [layer.kept_heads(conditions.num_heads) for layer in layers if layer.attention == "kept"]
    neurons = [layer.kept_neurons(conditions.intermediate_size) for layer in layers if layer.feed_forward == "kept"]
    return [1.0, *(float(number) for left in (heads, neurons) for number in (len(left), sum(map(len, left))))]
