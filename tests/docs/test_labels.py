"""docs/examples/labels.py takes labels out of records, and puts the same ones back."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np

from axformer_lightning.evidence.predictions import Predictions

PROGRAM = str(Path(__file__).parents[2] / "docs/examples/labels.py")
HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
LABELS = [1, 0, 0, 1, 1]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [PROGRAM, *map(str, arguments)])
    runpy.run_path(PROGRAM, run_name="__main__")


def test_what_is_taken_out_is_put_back(tmp_path, monkeypatch):
    glue, record = tmp_path / "glue", tmp_path / "records" / "0"
    (glue / "MRPC").mkdir(parents=True)
    for part in ("train", "dev"):
        lines = [HEADER, *(f"{label}\t{i}\t{i}\tone\ttwo" for i, label in enumerate(LABELS))]
        (glue / "MRPC" / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for folder in ("finetuned", "model"):
        (record / folder).mkdir(parents=True)
    (record / "results.json").write_text(json.dumps({"task": "mrpc"}), encoding="utf-8")
    logits = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    for folder in ("finetuned", "model"):
        Predictions({"labels": np.asarray(LABELS), "logits": logits}).save(record / folder)
    whole = {path: path.read_bytes() for path in record.rglob("*.npz")}
    assert len(whole) == 2

    run(monkeypatch, tmp_path / "records")
    for folder in ("finetuned", "model"):
        kept = Predictions.load(record / folder)
        assert kept.labels is None
        assert np.array_equal(kept.arrays["logits"], logits)
    run(monkeypatch, tmp_path / "records", glue)
    for folder in ("finetuned", "model"):
        assert Predictions.load(record / folder).labels.tolist() == LABELS
    assert {path: path.read_bytes() for path in record.rglob("*.npz")} == whole
