"""Tiny models, cut, with a tokenizer of their own: as directories and as an .onnx file."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from axformer_lightning import apply_plan_, save_pretrained
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.plan import plan_of
from axformer_lightning.tasks.vocabulary import train_wordpiece

TEXTS = ["an otter swims in the cold river", "who swims where", "it rained a lot today", "much rain fell on the town"]
NAMES = {0: "no", 1: "maybe", 2: "yes"}
CUT = (LayerPlan(heads_removed=(1,), neurons_removed=((8, 24),)), LayerPlan(attention="removed"))
NO_FEED_FORWARD = LayerPlan(feed_forward="removed")


@pytest.fixture(scope="package")
def tokenizer():
    return train_wordpiece(TEXTS, max_length=64)


@pytest.fixture(scope="package")
def save(tokenizer, tmp_path_factory):
    """Saves a cut BERT with its tokenizer, and returns both it and the directory."""

    from tests.models import make_model  # is a plugin, which pytest imports after this file

    def make(last=NO_FEED_FORWARD, auto=AutoModelForSequenceClassification, **config):
        model = make_model("bert", "sdpa", auto, vocab_size=len(tokenizer), **config)
        apply_plan_(model, replace(plan_of(model), layers=(*CUT, last)))
        directory = tmp_path_factory.mktemp("saved") / "model"
        save_pretrained(model, directory, tokenizer=tokenizer)
        return model, directory

    return make


@pytest.fixture(scope="package")
def classifier(save):
    return save(LayerPlan(hard_attention=HardAttention(6)), id2label=NAMES)


@pytest.fixture(scope="package")
def answerer(save):
    return save(auto=AutoModelForQuestionAnswering)


@pytest.fixture(scope="package")
def onnx_file(save, tokenizer, tmp_path_factory):
    """A soft model as an .onnx file of any batch and length, and the directory that it comes from."""
    model, directory = save(id2label=NAMES)
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids = torch.randint(5, 50, (2, 9))
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=64)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(model),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            file,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=(shape, shape, shape),
            dynamo=True,
            verbose=False,
        )
    (file.parent / "config.json").write_text(json.dumps(model.config.to_dict()))
    tokenizer.save_pretrained(file.parent)
    return file, directory


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids, attention_mask, token_type_ids=token_type_ids).logits
