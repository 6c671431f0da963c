"""The core: what a user of the callbacks installs, without the packages of train.py."""

import subprocess
import sys

import pytest

# Not rich, matplotlib and scipy, which Lightning and torchmetrics import where they are there.
APP = ("datasets", "hydra", "jinja2", "omegaconf", "sentencepiece")
SCRIPT = f"""
import sys
for name in {APP!r}:
    sys.modules[name] = None  # importing it fails
import torch
from transformers import BertConfig, BertForSequenceClassification
from axformer_lightning import AccuracyDrivenPruningCallback, apply_plan_, find_plan
torch.manual_seed(0)
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, vocab_size=9)
model = BertForSequenceClassification(BertConfig(**sizes)).eval()
ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
batch = dict(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.tensor([0, 1]))
assert "axformer_lightning.report" not in sys.modules
print(len(find_plan(model, [batch], hard_attention_k=2, tolerance=9.0).decisions))
"""


@pytest.mark.slow
def test_the_core_prunes_without_the_packages_of_the_app():
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 3
