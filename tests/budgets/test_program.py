"""The program over widths, against all combinations."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.budgets.program import least_damage

OPTION = st.tuples(st.integers(0, 9), st.floats(-1, 5))
BLOCKS = st.lists(st.lists(OPTION, min_size=1, max_size=4), min_size=1, max_size=4)


@given(BLOCKS, st.integers(0, 30))
def test_no_combination_within_the_budget_does_less_damage(blocks, more):
    costs = [[cost for cost, _ in block] for block in blocks]
    damages = [[damage for _, damage in block] for block in blocks]
    budget = sum(map(min, costs)) + more
    chosen = least_damage(costs, damages, budget, buckets=max(1, budget))
    allowed = [
        sum(damages[b][o] for b, o in enumerate(options))
        for options in itertools.product(*(range(len(block)) for block in blocks))
        if sum(costs[b][o] for b, o in enumerate(options)) <= budget
    ]
    assert sum(damages[b][o] for b, o in enumerate(chosen)) == pytest.approx(min(allowed), abs=1e-9)
    assert sum(costs[b][o] for b, o in enumerate(chosen)) <= budget


@given(BLOCKS, st.integers(0, 30), st.integers(1, 7))
def test_the_budget_holds_however_coarse_the_buckets_are(blocks, more, buckets):
    costs = [[cost for cost, _ in block] for block in blocks]
    budget = sum(map(min, costs)) + more
    chosen = least_damage(costs, [[damage for _, damage in block] for block in blocks], budget, buckets)
    assert sum(costs[b][o] for b, o in enumerate(chosen)) <= budget


def test_a_budget_below_the_cheapest_options_is_refused():
    with pytest.raises(ValueError, match="at least 3, what the cheapest options cost, got 2"):
        least_damage([[1, 5], [2, 7]], [[0, 0], [0, 0]], budget=2)
