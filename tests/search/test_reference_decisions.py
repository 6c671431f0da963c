"""Against decisions that were computed independently, exhaustively, on a fine-tuned model and real data."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from axformer_lightning import find_plan
from axformer_lightning.tasks import load_rows

SHARED = Path(os.environ.get("AXFORMER_SHARED", Path(__file__).parents[3] / "shared"))
CHECKPOINT = SHARED / "models" / "minilm-mrpc"

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not CHECKPOINT.is_dir(), reason=f"no checkpoint in {CHECKPOINT}; set AXFORMER_SHARED"),
]


@pytest.mark.parametrize(
    ("file", "majority", "rows"),
    [("reference_decisions.json", 0.5, "rows"), ("loss_only_decisions.json", 0, "all_held_out")],
)
def test_the_decisions_are_the_reference_ones(file, majority, rows):
    torch.set_num_threads(os.cpu_count())
    expected = json.loads((CHECKPOINT / file).read_text())
    chosen = json.loads((CHECKPOINT / "search_rows.json").read_text())[rows][:384]
    train = load_rows("mrpc", SHARED / "data" / "glue").train.select(chosen)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    model = AutoModelForSequenceClassification.from_pretrained(CHECKPOINT, dtype=torch.float32)
    batch = tokenizer(
        train["text_a"][:], train["text_b"][:], truncation=True, max_length=128, padding=True, return_tensors="pt"
    )
    batch["labels"] = torch.tensor(train["label"][:])
    plan = find_plan(model, [batch], majority=majority, full_scores=True)
    assert len(plan.decisions) == len(expected["decisions"])
    for ours, theirs in zip(plan.decisions, expected["decisions"], strict=True):
        assert (ours.kind, ours.layer, ours.index) == (theirs["kind"], theirs["layer"], theirs["index"])
        assert ours.loss == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours.accepted == theirs["accepted"]
