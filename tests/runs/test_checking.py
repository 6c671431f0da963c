"""Configurations that are refused."""

import pytest

from axformer_lightning.runs.checking import check_configuration
from tests.runs.runs import configuration

TIMED = "hard_attention=default pruning.speedup=2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
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


def test_what_nobody_needs_is_not_refused():
    check_configuration(configuration("task=mrpc", "pruning=budget", "retrain_dense=true", *TIMED.split()))


@pytest.mark.parametrize("words", ["task=demo", "task=mrpc pruning=budget", "task=mrpc retrain_dense=true"])
def test_several_devices_are_refused_with_where_to_take_them(words):
    on_two = "++trainer.accelerator=cpu", "++trainer.devices=2"
    with pytest.raises(ValueError, match=r"one device, got 2: .*`trainer.devices=1`.*`-m sweep.jobs=2`.*callbacks"):
        check_configuration(configuration(*words.split(), *on_two))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.precision=foo", "^Precision 'foo' is invalid"),
        ("++trainer.foo=1", "unexpected keyword argument 'foo'$"),
    ],
)
def test_what_the_trainer_refuses_is_said_in_its_own_words(word, said):
    with pytest.raises(ValueError, match=said):
        check_configuration(configuration(word))


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
