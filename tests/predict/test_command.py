"""`python -m axformer_lightning.predict`."""

import io
import json
import runpy
import sys

import pytest

from axformer_lightning.predict.command import main

LINES = b'{"text": "it rained", "id": 5}\n{"text": "an otter"}\n'


@pytest.fixture
def run(capsys):
    def said(*arguments):
        main([str(argument) for argument in arguments])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return said


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    return path


def test_texts_pairs_files_and_standard_input_agree(run, classifier, file, monkeypatch):
    directory = classifier[1]
    first, second = run(directory, "it rained", "an otter")
    assert run(directory, "--input", file) == [{"id": 5} | first, second]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    assert run(directory, "--input", "-") == [{"id": 5} | first, second]
    (pair,) = run(directory, "--pairs", "it rained", "an otter")
    assert pair not in (first, second)


def test_a_question_is_answered(run, answerer):
    (said,) = run(answerer[1], "--question", "who swims", "--context", "an otter swims")
    assert said["answer"] in "an otter swims"


def test_an_output_file_is_whole_and_replaced_only_if_asked(run, classifier, file, tmp_path):
    out = tmp_path / "out.jsonl"
    assert run(classifier[1], "--input", file, "--output", out) == []
    content = out.read_text()
    assert [json.loads(line) for line in content.splitlines()] == run(classifier[1], "--input", file)
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(classifier[1], "it rained", "--output", out)
    file.write_text(json.dumps({"text": "rain " * 100}))
    with pytest.raises(ValueError, match="at most 64 tokens"):
        run(classifier[1], "--input", file, "--output", out, "--overwrite")
    assert out.read_text() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]
    run(classifier[1], "it rained", "--output", out, "--overwrite")
    assert len(out.read_text().splitlines()) == 1
    with pytest.raises(FileNotFoundError, match="Expected an existing directory"):
        run(classifier[1], "it rained", "--output", tmp_path / "none" / "out.jsonl")


def test_a_malformed_row_is_refused_before_the_model_is_looked_for(run, file, tmp_path):
    file.write_bytes(LINES + b"\xff\n")
    with pytest.raises(ValueError, match="Expected UTF-8 in line 3"):
        run(tmp_path / "none", "--input", file)
    with pytest.raises(ValueError, match="Expected `text` of row 1 in UTF-8"):
        run(tmp_path / "none", "\udcff")


@pytest.mark.parametrize(
    "arguments",
    [(), ("a", "--question", "b", "--context", "c"), ("--question", "b"), ("--pairs", "a"), ("a", "--input", "x")],
)
def test_what_does_not_go_together_is_refused(run, tmp_path, arguments, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, *arguments)
    assert "error: expected" in capsys.readouterr().err


def test_a_mistake_ends_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predict", str(tmp_path / "none"), "a"])
    with pytest.raises(SystemExit, match="FileNotFoundError: Expected a saved model at"):
        runpy.run_module("axformer_lightning.predict", run_name="__main__")
