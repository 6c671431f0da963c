"""A dynamic program: of every block one width, so that the sum of damages is least within a budget.

Source: the program over cost buckets is that of arXiv 2201.13096 (SPDY), section 3.
"""

from collections.abc import Sequence

import torch

BUCKETS = 4000


def least_damage(
    costs: Sequence[Sequence[float]], damages: Sequence[Sequence[float]], budget: float, buckets: int = BUCKETS
) -> list[int]:
    """Return which option of each block makes the summed damage least while the summed cost is within the budget.

    Costs are rounded up to a bucket, so the budget holds; it is missed by a bucket per block at most.

    Args:
        costs: of each option, by block.
        damages: likewise; may be below 0.
        budget: most that all chosen options together may cost.
        buckets: into which the budget is divided.

    Raises:
        ValueError: if not even the cheapest options are within the budget.

    Example:
        >>> least_damage([[4, 1, 0], [4, 2, 0]], [[0, 0.1, 5], [0, 0.3, 5]], budget=5)
        [1, 0]
    """
    least = sum(map(min, costs))
    if least > budget:
        raise ValueError(f"Expected a budget of at least {least:g}, what the cheapest options cost, got {budget:g}.")
    unit = (budget or 1e-9) / buckets  # nothing that costs anything is within a budget of 0
    best = torch.zeros(buckets + 1, dtype=torch.float64)  # least damage of the blocks so far, by what they may cost
    chosen = []
    for block, worths in zip(costs, damages, strict=True):
        totals = []
        for cost, damage in zip(block, worths, strict=True):
            steps = _buckets(cost, unit)
            shifted = torch.full_like(best, torch.inf)
            if steps <= buckets:
                shifted[steps:] = best[: buckets + 1 - steps] + damage
            totals.append(shifted)
        best, option = torch.stack(totals).min(0)
        chosen.append(option)
    if not torch.isfinite(best[-1]):
        return [min(range(len(block)), key=block.__getitem__) for block in costs]  # only they fit, less the rounding
    options, left = [], buckets
    for block, option in zip(reversed(costs), reversed(chosen), strict=True):
        options.append(int(option[left]))
        left -= _buckets(block[options[-1]], unit)
    return options[::-1]


def _buckets(cost: float, unit: float) -> int:
    return -int(-cost // unit) if cost > 0 else 0
