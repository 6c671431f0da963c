"""What `predict` says is what the model says, from a directory and from a file."""

import io
import json
import logging.handlers
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from axformer_lightning import apply_plan_, export_model, predict, read_exported, save_pretrained
from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.exporting.texts import Predictor, open_model
from axformer_lightning.plan import plan_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(40))]


@pytest.fixture
def tokenizer():
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=plain, model_input_names=inputs, **names)


@pytest.fixture
def saved(tiny, tokenizer, tmp_path):
    model = tiny.model("bert", "eager")
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    return model, tmp_path / "artifact"


def said(capsys, *arguments):
    assert predict.main([*map(str, arguments)]) is None
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_probabilities_are_those_of_the_model_also_from_a_file(saved, tokenizer, tmp_path, capsys):
    model, directory = saved
    texts = ["w1 w2 w3", "w4", "w5 w6"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).logits.softmax(1).numpy()
    path = export_model(directory, tmp_path / "model.pt2")
    for source in (directory, path):
        lines = said(capsys, source, *texts)
        got = [[*line["probabilities"].values()] for line in lines]
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert [line["label"] for line in lines] == [model.config.id2label[i] for i in expected.argmax(1).tolist()]


@pytest.mark.slow
def test_a_config_that_asks_for_tuples_changes_nothing(saved, tokenizer, tmp_path, capsys):
    model, directory = saved
    expected = said(capsys, directory, "w1 w2")
    model.config.return_dict = False
    save_pretrained(model, tmp_path / "tuples", tokenizer=tokenizer)
    assert said(capsys, tmp_path / "tuples", "w1 w2") == expected
    (line,) = said(capsys, export_model(tmp_path / "tuples", tmp_path / "model.pt2"), "w1 w2")
    assert line["probabilities"] == pytest.approx(expected[0]["probabilities"], abs=1e-5)


def test_a_cut_model_speaks_without_a_warning(tiny, tokenizer, tmp_path, capsys, monkeypatch):
    model = tiny.model("bert", "eager")
    layers = (LayerPlan(heads_removed=(1,)), *plan_of(model).layers[1:])
    save_pretrained(
        apply_plan_(model, replace(plan_of(model), layers=layers)), tmp_path / "artifact", tokenizer=tokenizer
    )
    heard = logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [heard])
    said(capsys, tmp_path / "artifact", "w1 w2")
    assert [record.getMessage() for record in heard.buffer] == []
    assert transformers.logging.get_verbosity() == transformers.logging.WARNING


def test_lines_of_json_come_from_a_file_or_standard_input(saved, tmp_path, capsys, monkeypatch):
    _, directory = saved
    lines = '"w1 w2"\n\n{"text": "w3", "text_pair": "w4 w5"}\n'
    (tmp_path / "lines").write_text(lines)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    from_file, from_input = (
        said(capsys, directory, "--file", tmp_path / "lines"),
        said(capsys, directory, "--file", "-"),
    )
    assert from_file == from_input
    alone = [*said(capsys, directory, "w1 w2"), *said(capsys, directory, "--pairs", "w3", "w4 w5")]
    for one, other in zip(from_file, alone, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_lines_of_json_may_begin_with_a_byte_order_mark(saved, tmp_path, capsys):
    _, directory = saved
    (tmp_path / "lines").write_text('"w1"\n"w2"\n', encoding="utf-8-sig")
    assert len(said(capsys, directory, "--file", tmp_path / "lines")) == 2


def test_what_cannot_be_read_is_said_in_a_line(saved, tmp_path):
    _, directory = saved
    (tmp_path / "lines").write_bytes(b'"w1"\n"\xff"\n')
    assert "JSON in UTF-8 in line 2" in predict.main([str(directory), "--file", str(tmp_path / "lines")])
    assert "at most 64 tokens" in predict.main([str(directory), "w1 " * 80])
    assert predict.main([str(directory), "w1 " * 80, "--truncate"]) is None
    (tmp_path / "lines").write_text('"w1"\n\n' + json.dumps("w1 " * 80))
    assert "tokens in line 3 of" in (long := predict.main([str(directory), "--file", str(tmp_path / "lines")]))
    assert "--truncate" in long
    for depth in (10**5, sys.getrecursionlimit() - 200):  # cannot be read, cannot be shown
        (tmp_path / "lines").write_text('"w1"\n' + "[" * depth + "]" * depth)
        assert "in line 2 of" in predict.main([str(directory), "--file", str(tmp_path / "lines")])
        (tmp_path / "lines").write_text('"w1"\n{"text": ' + "[" * depth + "]" * depth + "}")
        assert "in line 2 of" in predict.main([str(directory), "--file", str(tmp_path / "lines")])
    assert "which does not exist" in predict.main([str(directory) + "x", "w1"])
    assert r"whole characters, got 'w1 \udcff'" in predict.main([str(directory), "w1 \udcff"])
    assert "even number" in predict.main([str(directory), "--pairs", "w1"])
    (directory / "tokenizer.json").unlink()
    assert "tokenizer=tokenizer" in predict.main([str(directory), "w1"])


@pytest.mark.parametrize("more", [["--question", "w1", "--context", "w2"], ["--file", "lines"]])
def test_pairs_of_no_texts_are_refused(more, capsys):
    with pytest.raises(SystemExit):
        predict.main(["model.onnx", "--pairs", *more])
    assert "--pairs with texts alone" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_numbers_of_threads_and_samples_are_positive(option, value, capsys):
    with pytest.raises(SystemExit):
        predict.main(["model.onnx", "w1", f"{option}={value}"])
    assert f"expected a positive whole number, got '{value}'" in capsys.readouterr().err


@pytest.mark.slow
def test_threads_are_those_of_torch_for_its_files_too(saved, tmp_path):
    path, before = export_model(saved[1], tmp_path / "model.pt2"), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        open_model(path, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_a_file_holds_a_tokenizer_that_cuts_nothing_whatever_it_did_before(saved, tokenizer, tmp_path):
    tokenizer("w1 " * 30, truncation=True, max_length=8, padding="max_length")
    path = export_model(saved[0], tmp_path / "model.pt2", tokenizer=tokenizer)
    held = Tokenizer.from_str(read_exported(path).notes.tokenizer)
    assert [len(held.encode("w1 " * count).ids) for count in (1, 30)] == [3, 32]
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 8


@pytest.mark.slow
def test_the_tokenizer_of_an_artifact_on_the_hub_is_in_the_file(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("axformer_lightning.artifacts.loading.snapshot_download", lambda name: str(saved[1]))
    path = export_model("someone/small", tmp_path / "model.pt2")
    assert read_exported(path).notes.tokenizer


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tiny, tokenizer, tmp_path):
    model = tiny.model("bert", "eager", vocab_size=20)
    with pytest.raises(ValueError, match="20 rows, got one with ids up to 43"):
        export_model(model, tmp_path / "model.pt2", tokenizer=tokenizer)


def test_one_label_gives_a_number_and_several_at_once_their_own_probabilities(tiny, tokenizer, tmp_path, capsys):
    several, numbers = {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}
    for settings, keys in (
        ({"num_labels": 1}, ["value"]),
        (numbers, ["values"]),
        (several, ["labels", "probabilities"]),
        (several | {"num_labels": 1}, ["labels", "probabilities"]),
    ):
        save_pretrained(tiny.model("bert", "eager", **settings), tmp_path / "artifact", tokenizer=tokenizer)
        (line,) = said(capsys, tmp_path / "artifact", "w1 w2")
        assert [*line] == keys


def test_labels_of_the_same_name_are_refused(tiny, tokenizer, tmp_path):
    model = tiny.model("bert", "eager", id2label={0: "no", 1: "yes", 2: "no"})
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    message = "Expected labels that differ, got ['no', 'yes', 'no']. Name them in `model.config.id2label`"
    assert predict.main([str(tmp_path / "artifact"), "w1"]).startswith(message)


def test_an_answer_is_the_best_span_over_all_windows(tiny, tokenizer, tmp_path, capsys):
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    words = [f"w{i % 37}" for i in range(100)]  # the model has positions for 64 tokens
    context = " ".join(words)
    (line,) = said(capsys, tmp_path / "artifact", "--question", "w1 w2", "--context", context)
    assert line["answer"] == context[line["start"] : line["end"]] != ""
    predictor = Predictor(open_model(tmp_path / "artifact"))
    encoded = predictor.tokenizer.encode("w1 w2", context)
    best = -np.inf
    for window in [encoded, *encoded.overflowing]:
        ids, types = (torch.tensor([x]) for x in (window.ids, window.type_ids))
        with torch.no_grad():
            out = model(input_ids=ids, token_type_ids=types, attention_mask=torch.ones_like(ids))
        for i, part in enumerate(window.sequence_ids):
            for j in range(i, min(i + 30, len(window.ids))):
                if part == window.sequence_ids[j] == 1:
                    best = max(best, float(out.start_logits[0, i] + out.end_logits[0, j]))
    assert len(encoded.overflowing) > 0
    assert line["score"] == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("blanks", [pre_tokenizers.Metaspace(), pre_tokenizers.ByteLevel(add_prefix_space=True)])
def test_an_answer_begins_with_a_word_also_where_tokens_begin_with_a_blank(tiny, tmp_path, capsys, blanks):
    ((marked, _),) = blanks.pre_tokenize_str("w")
    plain = Tokenizer(
        models.WordLevel({marked[:-1] + w: i for i, w in enumerate(WORDS)}, unk_token=marked[:-1] + "[UNK]")
    )
    plain.pre_tokenizer = blanks
    plain.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, model_input_names=["input_ids", "token_type_ids"])
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    lines = [json.dumps({"question": "w1", "context": " ".join(f"w{i * j % 37}" for j in range(9))}) for i in range(9)]
    (tmp_path / "lines").write_text("\n".join(lines))
    for line, sample in zip(said(capsys, tmp_path / "artifact", "--file", tmp_path / "lines"), lines, strict=True):
        context = json.loads(sample)["context"]
        assert line["answer"] == context[line["start"] : line["end"]] == " ".join(line["answer"].split()) != ""


def test_no_more_windows_are_run_at_once_than_a_batch_has_samples(tiny, tokenizer, tmp_path):
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    exported, rows = open_model(tmp_path / "artifact"), []

    def run(arrays):
        rows.append(len(arrays["input_ids"]))
        return exported.run(arrays)

    sample = {"question": "w1 w2", "context": " ".join(f"w{i % 37}" for i in range(300))}
    (few,), (all_,) = ([*Predictor(replace(exported, run=run))([sample], size)] for size in (2, 99))
    assert few == {**all_, "score": pytest.approx(all_["score"], abs=1e-4)}
    assert (max(rows[:-1]), sum(rows[:-1])) == (2, rows[-1])


@pytest.mark.parametrize(
    ("auto", "arguments"),
    [
        (AutoModelForSequenceClassification, ["w1"]),
        (AutoModelForQuestionAnswering, ["--question", "w1", "--context", "w2"]),
    ],
)
def test_a_model_that_has_diverged_says_nothing(tiny, tokenizer, tmp_path, capsys, auto, arguments):
    model = tiny.model("bert", "eager", auto=auto, num_labels=2)
    [*model.parameters()][-1].data.fill_(float("nan"))
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    assert predict.main([str(tmp_path / "artifact"), *arguments]).endswith("It has diverged: train it again.")
    assert capsys.readouterr().out == ""


def test_a_question_that_leaves_no_room_for_windows_is_refused(tiny, tokenizer, tmp_path, capsys):
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    longest = 64 - 3 - 16 - 1  # positions without special tokens, what windows share, and one more
    for count in (longest, longest + 1, 70):
        arguments = [str(tmp_path / "artifact"), "--question", "w1 " * count, "--context", "w2 " * 90]
        error = f"Expected a question of at most {longest} tokens next to a long context, got {count}. Shorten it, or"
        refused = predict.main(arguments)
        assert refused is None if count == longest else refused.startswith(error)


def test_a_question_that_leaves_no_room_for_windows_may_be_cut(tiny, tokenizer, tmp_path, capsys):
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    context = ["--context", " ".join(f"w{i % 37}" for i in range(90)), "--truncate"]
    questions = ("w1 " * 44, "w1 " * 44 + "w5 " * 30)
    short, long = (said(capsys, tmp_path / "artifact", "--question", question, *context) for question in questions)
    assert short == long


def test_a_long_question_is_answered_where_its_context_fits(tiny, tokenizer, tmp_path, capsys):
    model = tiny.model("bert", "eager", auto=AutoModelForQuestionAnswering, num_labels=2)
    save_pretrained(model, tmp_path / "artifact", tokenizer=tokenizer)
    for count, context in ((58, "w2 w3 w4"), (61, "")):
        (line,) = said(capsys, tmp_path / "artifact", "--question", "w1 " * count, "--context", context)
        assert line["answer"] in context
    arguments = [str(tmp_path / "artifact"), "--question", "w1 " * 58, "--context", "w2 w3 w4 w5"]
    assert "next to a long context, got 58. Shorten it" in predict.main(arguments)


def test_a_sample_may_have_keys_of_its_own(saved, tmp_path, capsys):
    _, directory = saved
    (tmp_path / "lines").write_text(json.dumps({"text": "w1 " * 80, "where": "HERE"}))
    assert "tokens in line 1 of" in predict.main([str(directory), "--file", str(tmp_path / "lines")])
    (tmp_path / "lines").write_text(json.dumps({"texts": "w1", "where": "HERE"}))
    message = predict.main([str(directory), "--file", str(tmp_path / "lines")])
    assert f"in line 1 of {str(tmp_path / 'lines')!r}" in message
    assert "got {'texts': 'w1', 'where': 'HERE'}" in message
    predictor = Predictor(open_model(directory))
    with pytest.raises(ValueError, match="at most 64 tokens, as many"):
        list(predictor([{"text": "w1 " * 80, "where": " HERE"}]))
