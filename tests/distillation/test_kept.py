"""Logits that are computed once."""

import pytest
import torch
from transformers import AutoModelForQuestionAnswering

from axformer_lightning.distillation import digest_of_model, kept, kept_logits, teacher_logits

ROWS = [torch.tensor([0.5, 1.5]), torch.tensor([2.5])]


def fail():
    raise AssertionError("computed again")


def test_each_row_has_what_the_teacher_says_of_it(tiny, logits):
    teacher, batches = tiny.model("bert").train(), [tiny.batch(), tiny.batch((4, 2), seed=1)]
    rows = teacher_logits(teacher, batches)
    assert teacher.training
    torch.testing.assert_close(torch.stack(rows), torch.cat([logits(teacher.eval(), batch) for batch in batches]))


def test_of_windows_the_padding_is_left_out(tiny):
    teacher, batch = tiny.model("bert", auto=AutoModelForQuestionAnswering, num_labels=2), tiny.batch((5, 3))
    first, second = teacher_logits(teacher, [batch | {"offsets": None}])
    assert (first.shape, second.shape) == ((5, 2), (3, 2))
    with torch.no_grad():
        output = teacher(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(second, torch.stack([output.start_logits[1, :3], output.end_logits[1, :3]], -1))


@pytest.mark.parametrize("rows", [ROWS, [torch.rand(3, 2), torch.rand(5, 2)]])
def test_what_is_kept_is_read_and_not_computed_again(tmp_path, rows):
    for compute in (lambda: rows, fail):
        found = kept_logits(tmp_path / "kept", "key", compute)
        assert all(torch.equal(*pair) for pair in zip(found, rows, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("how", ["flipped", "torn", "empty", "other key"])
def test_what_is_damaged_or_of_something_else_is_computed_again(tmp_path, how):
    path = tmp_path / "kept"
    kept_logits(path, "key", lambda: ROWS)
    content = bytearray(path.read_bytes())
    key = "other" if how == "other key" else "key"
    content[-1] ^= how == "flipped"
    path.write_bytes(content[: {"torn": len(content) // 2, "empty": 0}.get(how, len(content))])
    with pytest.raises(AssertionError, match="computed again"):
        kept_logits(path, key, fail)
    found = kept_logits(path, key, lambda: [torch.tensor([7.0])])
    assert torch.equal(found[0], torch.tensor([7.0]))


def test_a_disk_that_does_not_keep_what_is_written_is_noticed(tmp_path, monkeypatch):
    def save_file(tensors, path, metadata):
        path.write_bytes(b"something else")

    monkeypatch.setattr(kept, "save_file", save_file)
    with pytest.raises(OSError, match=r"to read from .*kept' what was written"):
        kept_logits(tmp_path / "kept", "key", lambda: ROWS)


def test_what_is_not_a_number_is_kept_as_it_is(tmp_path):
    found = kept_logits(tmp_path / "kept", "key", lambda: [torch.tensor([float("nan")])])
    assert found[0].isnan().all()


def test_a_digest_tells_models_apart(tiny):
    model = tiny.model("bert")
    before = digest_of_model(model)
    assert before == digest_of_model(tiny.model("bert"))
    with torch.no_grad():
        model.classifier.bias[0] += 1e-3
    assert digest_of_model(model) != before
    assert digest_of_model(model.to(torch.bfloat16)) != before
