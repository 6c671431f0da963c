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
    ("ratios", "got"),
    [
        ("2", "2"), ("two", "'two'"), ("[a]", r"\['a'\]"), ("[1]", r"\[1\]"), ("[2,0]", r"\[2, 0\]"),
        ("[2,nan]", r"\[2, nan\]"), ("[inf]", r"\[inf\]"), ("[true]", r"\[True\]"), ("{a:2}", r"\{'a': 2\}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dense", ["false", "true"])
def test_ratios_that_are_no_list_of_numbers_above_1_are_refused(ratios, got, dense):
    cfg = configuration("task=mrpc", "pruning=budget", f"pruning.ratios={ratios}", f"retrain_dense={dense}")
    with pytest.raises(ValueError, match=rf"`pruning\.ratios` to be a list of numbers above 1, .* got {got}\.$"):
        check_configuration(cfg)


@pytest.mark.parametrize("teacher", [[], ["distillation.teacher=null"]])
def test_a_teacher_that_was_not_said_is_refused(teacher):
    with pytest.raises(ValueError, match=r"`distillation\.teacher=DIR` .* got none\. .*`distillation=self`"):
        check_configuration(configuration("task=mrpc", "distillation=directory", *teacher))


def test_a_teacher_that_is_nowhere_is_refused():
    words = "distillation=directory", "distillation.teacher=nowhere"
    with pytest.raises(FileNotFoundError, match="fine-tuned model as the teacher, got 'nowhere'"):
        check_configuration(configuration("task=mrpc", *words))


def test_a_teacher_that_is_there_is_taken(tmp_path):
    check_configuration(configuration("task=mrpc", "distillation=directory", f"distillation.teacher={tmp_path}"))


def test_a_corpus_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match=r"`trim_vocabulary=true` with `corpus`, .* got false"):
        check_configuration(configuration("corpus=texts.txt"))
    check_configuration(configuration("corpus=texts.txt", "trim_vocabulary=true"))


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
