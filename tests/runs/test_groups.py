"""Callbacks that a configuration asks for."""

import pytest

from axformer_lightning.budgets import TARGETS
from axformer_lightning.runs.groups import callbacks_of
from tests.runs.runs import configuration

BUDGET = "task=mrpc", "pruning=budget"


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ([], {"encoder_size_ratio": 2.0}),
        (["pruning.ratios=[3]"], {"encoder_size_ratio": 2.0}),  # which the ratios stand in for
        (["pruning.speedup=3"], {"speedup": 3}),
        (["pruning.metric_floor=0"], {"metric_floor": 0}),  # as small as it gets without a loss
    ],
)
def test_half_the_encoder_is_asked_for_only_where_nothing_else_is(words, targets):
    (callback,) = callbacks_of(configuration(*BUDGET, *words))
    asked = callback.settings.options
    assert {name: asked[name] for name in TARGETS if asked.get(name) is not None} == targets


def test_a_target_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`encoder_size_ratio` to be a number above 1, got 0\."):
        callbacks_of(configuration(*BUDGET, "pruning.encoder_size_ratio=0"))
