"""Tiny models, cut, with a tokenizer of their own: as directories and as an .onnx file."""

from dataclasses import replace

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from axformer_lightning import apply_plan_, export_model, save_pretrained
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

    def make(last=NO_FEED_FORWARD, auto=AutoModelForSequenceClassification, **config):
        from tests.models import make_model  # is a plugin, which pytest imports after this file

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
    return save(auto=AutoModelForQuestionAnswering, num_labels=2)


@pytest.fixture(scope="package")
def onnx_file(classifier, tmp_path_factory):
    """The classifier as an .onnx file."""
    pytest.importorskip("onnxruntime")
    return export_model(classifier[1], tmp_path_factory.mktemp("onnx") / "model.onnx")
