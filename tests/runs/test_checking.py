"""Configurations that are refused."""

import pytest
from transformers import PreTrainedModel

from axformer_lightning import save_pretrained
from axformer_lightning.runs.checking import check_configuration
from axformer_lightning.tasks import TASKS, load_model
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


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("retrain_dense=no", "`retrain_dense` to be True or False, got 'no'"),
        ("predict_test=off", "`predict_test` to be True or False, got 'off'"),
        ("sweep.retry=1", r"`sweep\.retry` to be True or False, got 1"),
        ("report_stages=null", "`report_stages` to be True or False, got None"),
        ("model.learning_rate=high", r"`model\.learning_rate` to be a number, got 'high'"),
        ("data.search_fraction=null", r"`data\.search_fraction` to be a number, got None"),
        ("retrain_ema=some", "`retrain_ema` to be a number or None, got 'some'"),
        ("data.batch_size=1.5", r"`data\.batch_size` to be a whole number of at least 1, got 1\.5"),
        ("data.max_train_samples=all", r"`data\.max_train_samples` to be a whole number of at least 1, got 'all'"),
        ("finetune_epochs=null", "`finetune_epochs` to be a whole number of at least 0, got None"),
        ("task.name=cats", r"`task\.name` to be one of \['demo', .*got 'cats'"),
        ("+model.vocab_size=ten", r"`model\.vocab_size` to be a whole number of at least 1, got 'ten'"),
        ("pruning.rounds=two", r"`pruning\.rounds` to be a whole number of at least 1, got 'two'"),
    ],
)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("pruning", ["tolerant", "budget"])
def test_a_value_of_another_type_is_refused(pruning, word, said):
    with pytest.raises(ValueError, match=said):
        check_configuration(configuration("task=mrpc", f"pruning={pruning}", word))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.doc_stride=x", r"`data\.doc_stride` to be a whole number of at least 0, got 'x'"),
        ("task.n_best=0", r"`task\.n_best` to be a whole number of at least 1, got 0"),
        ("task.max_answer_length=0", r"`task\.max_answer_length` to be a whole number of at least 1, got 0"),
    ],
)
def test_a_setting_of_questions_that_is_none_is_refused(word, said):
    with pytest.raises(ValueError, match=said):
        check_configuration(configuration("task=squad", word))


def test_null_leaves_out_what_may_be_left_out():
    words = [f"data.{name}=null" for name in ("max_search_samples", "max_train_samples")]
    check_configuration(configuration(*words, "retrain_ema=null", "pruning=none", "hard_attention=none"))


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
        ("[]", r"\[\]"),
    ],
)  # fmt: skip
@pytest.mark.slow_but_first
@pytest.mark.parametrize("dense", ["false", "true"])
def test_ratios_that_are_no_list_of_numbers_above_1_are_refused(ratios, got, dense):
    cfg = configuration("task=mrpc", "pruning=budget", f"pruning.ratios={ratios}", f"retrain_dense={dense}")
    with pytest.raises(ValueError, match=rf"`pruning\.ratios` to be a list of numbers above 1, .* got {got}\.$"):
        check_configuration(cfg)


def test_ratios_whose_models_would_have_one_name_are_refused():
    words = "task=mrpc", "pruning=budget"
    with pytest.raises(ValueError, match=r"differ in their first six digits, .* got \[2\.0000001, 2\]\. Leave out"):
        check_configuration(configuration(*words, "pruning.ratios=[2.0000001,2]"))
    check_configuration(configuration(*words, "pruning.ratios=[2,2.0,2.00001]"))  # the same number twice is one model


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("retrain_epochs=0 distillation=none", "`retrain_epochs` of at least 1 .* got 0. Set it"),
        ("int8=default", "`int8_retrain_epochs` of at least 1 .* got 0: by the search set it is decided"),
    ],
)
def test_a_last_retraining_that_is_none_is_refused(words, said):
    words = ["pruning=budget", "retrain_on_all=true", *words.split()]
    with pytest.raises(ValueError, match=said):
        check_configuration(configuration("task=mrpc", *words))


@pytest.mark.parametrize("teacher", [[], ["distillation.teacher=null"]])
def test_a_teacher_that_was_not_said_is_refused(teacher):
    with pytest.raises(ValueError, match=r"`distillation\.teacher=DIR` .* got none\. .*`distillation=self`"):
        check_configuration(configuration("task=mrpc", "distillation=directory", *teacher))


def test_a_teacher_that_is_nowhere_is_refused():
    words = "distillation=directory", "distillation.teacher=nowhere"
    with pytest.raises(FileNotFoundError, match="fine-tuned model as the teacher, got 'nowhere'"):
        check_configuration(configuration("task=mrpc", *words))


@pytest.fixture
def teacher(tmp_path):
    """Makes a directory with a fine-tuned model of a task, as transformers or as this package saves it."""

    def make(task, save=PreTrainedModel.save_pretrained, **sizes):
        config = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, **sizes}
        model, tokenizer = load_model(TASKS[task], config=config, texts=["Who?"], max_length=48)
        save(model, tmp_path / "teacher's own")
        tokenizer.save_pretrained(tmp_path / "teacher's own")
        return tmp_path / "teacher's own"

    return make


def taught_by(directory, *words):
    path = str(directory).replace("'", "\\'")
    return configuration("task=mrpc", "distillation=directory", f"distillation.teacher='{path}'", *words)


@pytest.mark.parametrize("save", [PreTrainedModel.save_pretrained, save_pretrained])
def test_a_teacher_that_knows_the_task_is_taken(teacher, save):
    check_configuration(taught_by(teacher("mrpc", save)))


def without(name):
    return lambda directory: (directory / name).unlink()


@pytest.mark.parametrize(
    ("task", "spoil", "said"),
    [
        ("mrpc", without("config.json"), "fine-tuned model as the teacher, got .*config.json.*with its tokenizer"),
        ("mrpc", without("model.safetensors"), "fine-tuned model as the teacher, got .*no file named model.safetens"),
        ("mrpc", lambda it: (it / "model.safetensors").write_bytes(b"cut"), "fine-tuned model as the teacher, got"),
        ("mrpc", without("tokenizer.json"), "a tokenizer beside the teacher in"),
        (
            "mnli",
            lambda it: None,
            "a teacher for 2 labels, as the task has, got one for 3 in .*fine-tuned on this task",
        ),
        ("squad", lambda it: None, "of the task's kind, 'ForSequenceClassification', got .*BertForQuestionAnswering"),
    ],
)
def test_a_teacher_that_cannot_teach_the_task_is_refused_before_anything(teacher, task, spoil, said):
    spoil(directory := teacher(task))
    with pytest.raises(ValueError, match=f"Expected .*{said}"):
        check_configuration(taught_by(directory))


def test_a_teacher_with_too_few_positions_is_refused_before_anything(teacher):
    directory = teacher("mrpc", max_position_embeddings=64)
    with pytest.raises(ValueError, match=r"at least the 65 positions of `data\.max_length`, got 64 in"):
        check_configuration(taught_by(directory, "data.max_length=65"))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("noise", ["0", "1.5", "nan", "some", "true", "null"])
def test_a_noise_that_is_no_share_is_refused(noise):
    words = "task=mrpc", "distillation=self", "distillation.copies=1", f"distillation.noise={noise}"
    with pytest.raises(ValueError, match=r"`distillation\.noise`, .* got .*`distillation\.copies=0`"):
        check_configuration(configuration(*words))
    check_configuration(configuration(*words, "distillation.copies=0"))


@pytest.mark.slow_but_first
@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true", "64"])
def test_int8_of_other_weights_than_float32_is_refused_before_anything(precision):
    words = "int8=default", f"trainer.precision={precision}"
    with pytest.raises(ValueError, match=rf"`int8=none` .* got `trainer\.precision={precision}`.*`bf16-mixed`"):
        check_configuration(configuration(*words))
    check_configuration(configuration(*words, "retrain_dense=true"))
    check_configuration(configuration("int8=default", "trainer.precision=bf16-mixed"))


def test_a_corpus_that_nothing_reads_is_refused(tmp_path):
    (tmp_path / "texts.txt").write_text("a zyzzyva\n")
    corpus = f"corpus={tmp_path / 'texts.txt'}"
    with pytest.raises(ValueError, match=r"`trim_vocabulary=true` with `corpus`, .* got false"):
        check_configuration(configuration(corpus))
    check_configuration(configuration(corpus, "trim_vocabulary=true"))


def test_a_corpus_that_cannot_be_read_is_refused_before_anything(tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    for name, kind, said in (
        ("nowhere", FileNotFoundError, r"a file with texts, one per line, got '.*/nowhere', which is not there\. Give"),
        ("", FileNotFoundError, r"a file with texts, one per line, got '.*', which is a directory\. Give"),
        ("latin", ValueError, r"`corpus` in UTF-8, got other bytes in '.*/latin': .* Save"),
    ):
        with pytest.raises(kind, match=said):
            check_configuration(configuration("trim_vocabulary=true", f"corpus={tmp_path / name}"))


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
