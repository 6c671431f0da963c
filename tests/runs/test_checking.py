"""Configurations that are refused."""

import pytest

from axformer_lightning.runs.checking import check_configuration
from tests.runs.runs import configuration

ON_TWO = "++trainer.accelerator=cpu ++trainer.devices=2"
TIMED = "hard_attention=default pruning.speedup=2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"pruning.metric_floor=0.01 {ON_TWO}", r"one process with `pruning\.metric_floor`, got 2\. Set `trainer\."),
        (f"pruning.speedup=2 {ON_TWO}", r"one process with `pruning\.speedup`, .* got 2\. .*`pruning\.latency_table="),
        (f"pruning.latency_ms=2 {ON_TWO}", r"one process with `pruning\.latency_ms`, .* got 2\."),
        (TIMED, r"`hard_attention=none` with `pruning\.speedup`"),
        ("hard_attention=default pruning.latency_ms=2", r"`hard_attention=none` with `pruning\.latency_ms`"),
        ("task=squad pruning.metric_floor=0.01 distillation.copies=0", r"per sample with `pruning\.metric_floor`"),
        ("pruning.latency_table=nowhere.json pruning.speedup=2", "nowhere.json"),
        ("pruning.encoder_size_ratio=0.5", "`encoder_size_ratio` to be a number above 1, got 0.5"),
    ],
)
def test_what_a_budget_cannot_do_is_refused_before_anything(words, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        check_configuration(configuration("task=mrpc", "pruning=budget", *words.split()))


@pytest.mark.parametrize(
    "words", [ON_TWO, f"{TIMED} retrain_dense=true", f"pruning.metric_floor=0.01 retrain_dense=true {ON_TWO}"]
)
def test_what_nobody_needs_is_not_refused(words):
    check_configuration(configuration("task=mrpc", "pruning=budget", *words.split()))


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
