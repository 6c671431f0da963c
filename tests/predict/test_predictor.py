"""What is said of a row is what the model says of it alone."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel

from axformer_lightning import save_pretrained
from axformer_lightning.exporting import formats
from axformer_lightning.predict import load_predictor
from axformer_lightning.tasks.squad import best_spans, make_windows
from tests.models import make_model

TEXTS = ["it rained", "An otter swims in the cold river today.", "", "who? the town, the town, the town", "rain"]
ROWS = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
PAIRS = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, reversed(TEXTS), strict=True)]
CONTEXT = "It rained a lot today. An otter swims in the cold river. Much rain fell on the town. " * 4


def alone(model, tokenizer, *texts):
    with torch.no_grad():
        return model(**tokenizer(*([text] for text in texts), return_tensors="pt"))


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("rows", [ROWS, PAIRS])
def test_probabilities_are_the_models_in_the_order_of_the_rows(classifier, tokenizer, rows, batch_size):
    model, directory = classifier
    said = list(load_predictor(directory)(rows, batch_size))
    assert [row.get("id") for row in said] == [row.get("id") for row in rows]
    for row, found in zip(rows, said, strict=True):
        texts = [row[name] for name in ("text", "text_pair") if name in row]
        expected = alone(model, tokenizer, *texts).logits[0].softmax(0).tolist()
        assert list(found["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
        assert found["label"] == ["no", "maybe", "yes"][max(range(3), key=expected.__getitem__)]
        assert found["probability"] == max(found["probabilities"].values())


def test_rows_beyond_one_chunk_are_all_predicted(classifier):
    predictor = load_predictor(classifier[1])
    rows = [ROWS[i % 5] for i in range(40)]
    said = list(predictor(rows, batch_size=1))
    assert [row["label"] for row in said] == [row["label"] for row in predictor(ROWS)] * 8


def test_an_onnx_file_says_what_the_directory_says(classifier, onnx_file):
    for rows in (ROWS, PAIRS):
        expected, found = (list(load_predictor(path)(rows, 3)) for path in (classifier[1], onnx_file))
        assert [row["label"] for row in found] == [row["label"] for row in expected]
        for one, other in zip(expected, found, strict=True):
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)


def test_a_regression_says_a_score(save, tokenizer):
    model, directory = save(num_labels=1)
    (said,) = load_predictor(directory)(ROWS[:1])
    assert said == {"id": 0, "score": pytest.approx(alone(model, tokenizer, TEXTS[0]).logits.item(), abs=1e-4)}


def test_several_labels_may_hold(save, tokenizer):
    model, directory = save(num_labels=3, problem_type="multi_label_classification")
    (said,) = load_predictor(directory)(ROWS[:1])
    expected = alone(model, tokenizer, TEXTS[0]).logits[0].sigmoid()
    assert list(said["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert said["labels"] == [f"LABEL_{i}" for i in range(3) if expected[i] > 0.5]


def test_answers_are_those_of_the_task(answerer, tokenizer):
    model, directory = answerer
    rows = [{"question": q, "context": c} for q, c in (("Who swims?", CONTEXT), ("where", CONTEXT[:30]))]
    predictor = load_predictor(directory)
    expected = Dataset.from_list([{**row, "id": "x", "answers": {"text": [], "answer_start": []}} for row in rows])
    windows = make_windows(expected, tokenizer, 64, 64 // 3)
    assert len(windows) > 2
    outputs = [
        model(**{name: torch.tensor([window[name]]) for name in tokenizer.model_input_names}) for window in windows
    ]
    pad = torch.nn.utils.rnn.pad_sequence
    start, end = (pad([o[name][0] for o in outputs], True, -1e30) for name in ("start_logits", "end_logits"))
    offsets = pad([torch.tensor(window["offsets"]) for window in windows], True, -1)
    mask = pad([torch.tensor(window["attention_mask"]) for window in windows], True)
    spans = best_spans(start, end, offsets, mask, torch.tensor(windows["sample_ids"]))
    for batch_size in (1, 8):
        said = list(predictor(rows, batch_size))
        for row, found, chars, score, null in zip(rows, said, *spans[1:], strict=True):
            assert found["answer"] == row["context"][found["start"] : found["end"]] != ""
            assert found["answer"] == row["context"][chars[0] : chars[1]].strip()
            assert found["score"] == pytest.approx(score.item(), abs=1e-4)
            assert found["no_answer_score"] == pytest.approx((null - score).item(), abs=1e-4)


def test_rows_of_the_other_task_are_refused(classifier, answerer):
    question = [{"question": "who", "context": "an otter"}]
    with pytest.raises(ValueError, match=r"Expected rows with `text`.*from row 1 on"):
        list(load_predictor(classifier[1])(question))
    with pytest.raises(ValueError, match="Expected rows with `question` and `context`"):
        list(load_predictor(answerer[1])(ROWS))


def test_a_question_that_leaves_no_room_is_refused(answerer):
    with pytest.raises(ValueError, match=r"leaves more than 21 of 64 tokens.*in row 1"):
        list(load_predictor(answerer[1])([{"question": "who swims " * 40, "context": "an otter"}]))


def test_a_text_beyond_the_positions_is_refused_or_cut(classifier):
    row = {"text": "rain " * 100}
    with pytest.raises(ValueError, match=r"at most 64 tokens.*got 102 in row 2"):
        list(load_predictor(classifier[1])([ROWS[0], row]))
    (cut,) = load_predictor(classifier[1], max_length=10)([row])
    (short,) = load_predictor(classifier[1])([{"text": "rain " * 8}])
    assert cut == short
    with pytest.raises(ValueError, match="Expected `max_length` from 3 to 64, got 65"):
        load_predictor(classifier[1], max_length=65)


def test_batches_of_none_are_refused(classifier):
    with pytest.raises(ValueError, match="`batch_size` to be at least 1, got 0"):
        list(load_predictor(classifier[1])(ROWS, 0))


def test_a_model_without_a_head_is_refused(tokenizer, tmp_path):
    save_pretrained(make_model("bert", auto=AutoModel), tmp_path, tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"classifies sequences or answers questions.*a BertModel"):
        load_predictor(tmp_path)


def test_an_engine_that_is_not_installed_is_named_with_its_extra(onnx_file, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", {}.get)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'axformer-lightning\[export\]'"):
        load_predictor(onnx_file)


def test_what_is_no_model_is_refused(tmp_path, onnx_file, classifier):
    with pytest.raises(FileNotFoundError, match="found nothing"):
        load_predictor(tmp_path / "none.onnx")
    (tmp_path / "model.onnx").write_bytes(onnx_file.read_bytes()[:100])
    with pytest.raises(ValueError, match="Cannot read"):
        load_predictor(tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_predictor(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        load_predictor(classifier[1], tokenizer=tmp_path)


def test_a_model_that_was_saved_alone_takes_a_tokenizer_from_elsewhere(classifier, tmp_path):
    model, directory = classifier
    save_pretrained(model, tmp_path)
    with pytest.raises(ValueError, match="Expected a tokenizer in"):
        load_predictor(tmp_path)
    assert [*load_predictor(tmp_path, tokenizer=directory)(ROWS)] == [*load_predictor(directory)(ROWS)]
