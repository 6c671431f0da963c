"""Widths, and the layers that have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.anatomy import BERT, Anatomy, LayerPlan
from axformer_lightning.budgets.widths import layers_of, widths_of
from axformer_lightning.repair import RemovalOrder, ladder

ANATOMY = Anatomy("bert", BERT, ("layer.0", "layer.1"), num_heads=4, head_size=8, intermediate_size=48)


@given(st.integers(0, 5000))
def test_a_ladder_goes_from_whole_to_removed_in_different_steps(units):
    steps = ladder(units)
    assert steps[0] == units
    assert steps[-1] is None
    assert list(steps[:-1]) == sorted({*steps[:-1]}, reverse=True)
    assert units == 0 or min(steps[:-1]) >= 1


@pytest.mark.parametrize("widths", [{(1, "attention"): 2, (0, "feed_forward"): 7}, {(1, "feed_forward"): None}, {}])
def test_layers_have_the_widths_that_were_asked_for_and_keep_the_last_in_the_order(widths):
    before = (LayerPlan(heads_removed=(2,)), LayerPlan())
    orders = {
        (0, "attention"): RemovalOrder((3, 1, 0), (0.0,) * 3),
        (1, "attention"): RemovalOrder((2, 0, 3, 1), (0.0,) * 4),
        (0, "feed_forward"): RemovalOrder(tuple(range(48)), (0.0,) * 48),
        (1, "feed_forward"): RemovalOrder(tuple(range(48)), (0.0,) * 48),
    }
    layers = layers_of(ANATOMY, before, orders, widths)
    assert widths_of(ANATOMY, layers) == widths_of(ANATOMY, before) | widths
    if (1, "attention") in widths:
        assert layers[1].kept_heads(4) == [1, 3]
        assert layers[0].kept_neurons(48) == list(range(41, 48))
