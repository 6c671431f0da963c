"""What cannot be exported or read is refused with a message that says what to do, and no file is touched."""

import shlex
from dataclasses import replace

import numpy as np
import pytest

from axformer_lightning import apply_plan_, export, export_model, read_exported, save_pretrained
from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.exporting import FORMATS, Notes
from axformer_lightning.exporting.export import files_of
from axformer_lightning.plan import plan_of


@pytest.fixture
def model(tiny):
    return tiny.model("bert", "eager", num_hidden_layers=1)


def refused(error, match, model, path, **options):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(error, match=match):
        export_model(model, path, **options)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.slow
def test_a_file_that_exists_stays_unless_it_may_be_replaced(model, tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"mine")
    refused(FileExistsError, "--overwrite", model, path)
    export_model(model, path, overwrite=True)
    assert read_exported(path).notes.architecture == type(model).__name__


def test_a_directory_in_the_place_of_a_file_is_refused_before_anything_is_traced(model, tmp_path, monkeypatch):
    monkeypatch.setattr("axformer_lightning.exporting.export._ready", None)
    (tmp_path / "model.bin").mkdir()
    (tmp_path / "model.pt2").mkdir()
    for name, found in (("model.pt2", "model.pt2"), ("model.xml", "model.bin")):
        with pytest.raises(FileExistsError, match=rf"path of a file, got '.*{found}', which is a directory"):
            export_model(model, tmp_path / name, overwrite=True)


def test_a_file_that_belongs_beside_another_stays_too(model, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"mine")
    refused(FileExistsError, r"model\.bin", model, tmp_path / "model.xml")


@pytest.mark.slow
def test_an_opset_that_the_exporter_does_not_know_is_refused(model, tmp_path):
    pytest.importorskip("onnx")
    refused(ValueError, "got 99, for which it writes 18", model, tmp_path / "model.onnx", opset=99)


def test_a_model_of_which_a_part_was_cut_alone_is_refused(model, tmp_path):
    plan = plan_of(model)
    apply_plan_(model.bert, replace(plan, layers=(LayerPlan(int8=("attention",)),)))
    refused(ValueError, "whose 'bert' was cut alone", model, tmp_path / "model.pt2")


def test_unknown_formats_old_opsets_and_names_are_told_what_there_is(model, tmp_path):
    refused(ValueError, "'onnx', 'openvino', 'torch'", model, tmp_path / "model.tflite")
    refused(ValueError, "ends in '.onnx'", model, tmp_path / "model.pt2", format="onnx")
    refused(ValueError, "opset of 18 or newer, got 11", model, tmp_path / "model.pt2", opset=11)
    refused(ValueError, r"got \['bert.encoder'\]", model, tmp_path / "model.onnx", int8=["bert.encoder"])
    refused(ValueError, r"format out of \['onnx', 'openvino'\]", model, tmp_path / "model.pt2", int8=True)


@pytest.mark.slow
def test_an_engine_that_is_not_installed_is_named_with_its_extra(model, tmp_path, monkeypatch):
    monkeypatch.setattr("axformer_lightning.exporting.formats.find_spec", lambda name: None)
    refused(ModuleNotFoundError, r"pip install 'axformer-lightning\[export\]'", model, tmp_path / "model.onnx")
    refused(ModuleNotFoundError, r"axformer-lightning\[openvino\]", model, tmp_path / "model.xml")
    export_model(model, tmp_path / "model.pt2")


def test_a_writer_that_dies_leaves_nothing(model, tmp_path, monkeypatch):
    def dies(ready, path):
        path.write_bytes(b"half")
        raise MemoryError("no space left")

    monkeypatch.setitem(FORMATS, "torch", FORMATS["torch"].__class__(**vars(FORMATS["torch"]) | {"write": dies}))
    refused(MemoryError, "no space", model, tmp_path / "model.pt2")


def test_missing_and_long_inputs_are_refused_before_the_engine_sees_them():
    notes = Notes("A", ("input_ids", "attention_mask"), ("logits",), ("a", "b"), max_tokens=4, pad_token_id=0)
    ids = np.ones((1, 5), dtype=np.int64)
    with pytest.raises(ValueError, match=r"got none for \['attention_mask'\]"):
        notes.check({"input_ids": ids})
    with pytest.raises(ValueError, match="at most 4 tokens"):
        notes.check({"input_ids": ids, "attention_mask": ids})
    with pytest.raises(ValueError, match=r"the shape \(5,\)\. Give a batch"):
        notes.check({"input_ids": ids[0], "attention_mask": ids[0]})
    notes.check({"input_ids": ids[:, :4], "attention_mask": ids[:, :4]})


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no file"):
        read_exported(tmp_path / "model")
    (tmp_path / "model.pt2").write_bytes(b"something else")
    with pytest.raises(ValueError, match="Cannot read"):
        read_exported(tmp_path / "model.pt2")
    for texts in ({}, {"axformer_lightning": "[]"}, {"axformer_lightning": "{}"}, {"axformer_lightning": "x"}):
        with pytest.raises(ValueError, match="Export the model again"):
            Notes.from_text(texts, "other.onnx")


@pytest.mark.slow
def test_the_command_writes_a_file_and_says_errors_in_a_line(model, tmp_path, capsys):
    save_pretrained(model, tmp_path / "artifact")
    path = tmp_path / "out" / "model.pt2"
    assert export.main([str(tmp_path / "artifact"), str(path)]) is None
    assert f"{path}: " in capsys.readouterr().out
    assert "which is there" in export.main([str(tmp_path / "artifact"), str(path)])
    assert "no such directory" in export.main([str(tmp_path / "nothing"), str(tmp_path / "other.pt2")])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.pt2", "model[1].pt2", "a model.pt2"])
def test_the_command_says_the_bytes_of_its_own_files_and_a_command_that_can_be_pasted(model, tmp_path, capsys, name):
    save_pretrained(model, tmp_path / "artifact")
    path = tmp_path / name
    for end in (".bin", ".onnx", ".x.pt2"):  # of others
        path.with_suffix(end).write_bytes(bytes(10**7))
    assert export.main([str(tmp_path / "artifact"), str(path)]) is None
    said, then = capsys.readouterr().out.splitlines()
    assert said == f"{path}: {path.stat().st_size / 1e6:.1f} MB"
    assert shlex.split(then)[-2:] == [str(path), "a text"]


def test_the_files_of_a_model_are_those_that_its_format_names(tmp_path):
    assert files_of(tmp_path / "model.xml") == [tmp_path / "model.xml", tmp_path / "model.bin"]
    assert files_of(tmp_path / "model.onnx") == [tmp_path / "model.onnx"]
