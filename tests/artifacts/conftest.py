"""Artifacts of a cut model to damage."""

import os

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

FILES = ("config.json", "model.safetensors", "axformer_plan.json")
SUMS = "SHA256SUMS"
LAYERS = (
    LayerPlan("kept", (0, 2), "kept", ((8, 24),), HardAttention(3)),
    LayerPlan("removed", (), "kept", ((0, 8),)),
    LayerPlan("kept", (1,), "removed"),
)


@pytest.fixture
def cut(tiny):
    return apply_plan_(tiny.model("bert", "sdpa"), Plan("bert", 3, 4, 48, LAYERS))


@pytest.fixture
def sealed(cut, tmp_path):
    save_pretrained(cut, tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture
def unsealed(sealed):
    """As a person leaves it who changes its files on purpose."""
    (sealed / SUMS).unlink()
    return sealed


@pytest.fixture
def outcome(cut, tiny, logits):
    """Returns whether an artifact loads, and as a model whose logits are those of the one that was saved."""
    expected = logits(cut, tiny.batch())

    def load(directory):
        try:
            model = load_pretrained(directory)
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
            assert os.fspath(directory) in message
            assert any(name in message for name in (*FILES, SUMS))
            return "refused"
        with torch.inference_mode():
            return "same" if torch.equal(logits(model, tiny.batch()), expected) else "other"

    return load


@pytest.fixture
def tokenizer(family):
    words = {"[PAD]": 0, "[UNK]": 1, "a": 5, "fine": 6, "film": 7}
    fast = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]", model_input_names=inputs, model_max_length=60
    )
