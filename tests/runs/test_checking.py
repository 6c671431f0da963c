"""Configurations that are refused."""

import pytest

from axformer_lightning.runs.checking import check_configuration
from tests.runs.runs import configuration


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pruning.ratios=[2] pruning.speedup=3", r"`pruning\.ratios` alone, .* got `pruning\.speedup` as well"),
        ("pruning.ratios=[2] pruning.metric_floor=0", r"`pruning\.ratios` alone, .* got `pruning\.metric_floor`"),
        ("pruning.rounds=3", r"`pruning\.rounds=1` with `pruning=budget`, got 3"),
    ],
)
def test_targets_that_would_be_overruled_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        check_configuration(configuration("task=mrpc", "pruning=budget", *words.split()))


@pytest.mark.parametrize(
    "words", ["pruning.ratios=[2,3]", "pruning.speedup=3", "", "pruning.rounds=3 hard_attention=default"]
)
def test_targets_that_count_are_taken(words):
    check_configuration(configuration("task=mrpc", "pruning=budget", *words.split()))
