import huggingface_hub
import pytest
import torch
from transformers import AutoTokenizer

from axformer_lightning import load_pretrained, save_pretrained
from axformer_lightning.tasks import TASKS, load_model, models

CONFIG = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 32, "max_position_embeddings": 64}
TEXTS = ["the ferry left", "a boat came in"]


@pytest.fixture
def made():
    return load_model(TASKS["mrpc"], config=CONFIG, texts=TEXTS, max_length=64)


def test_random_weights_come_with_a_vocabulary_of_the_task(made):
    model, tokenizer = made
    assert model.config.id2label == {0: "not_equivalent", 1: "equivalent"}
    assert model.config.vocab_size == len(tokenizer) >= 100
    assert tokenizer.unk_token_id not in tokenizer("the ferry", "a boat")["input_ids"]


def test_a_directory_is_loaded_with_its_tokenizer(made, tmp_path):
    save_pretrained(made[0], tmp_path / "dense", tokenizer=made[1])
    model, tokenizer = load_model(TASKS["demo"], pretrained=str(tmp_path / "dense"), max_length=64)
    assert type(tokenizer) is type(AutoTokenizer.from_pretrained(tmp_path / "dense"))
    assert model.dtype == torch.float32
    assert model.training
    assert model.config.id2label == {0: "different", 1: "same"}
    assert load_pretrained(tmp_path / "dense").config.id2label == {0: "not_equivalent", 1: "equivalent"}


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(ValueError, match=r"`data\.max_length` of at most 64.*got 65"):
        load_model(TASKS["demo"], config=CONFIG, texts=TEXTS, max_length=65)


def test_neither_source_is_refused():
    with pytest.raises(ValueError, match=r"model\.pretrained"):
        load_model(TASKS["demo"])


def test_a_model_that_can_be_had_from_nowhere_is_told_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"(?s)'no/where'.*model=minilm.*python train\.py"):
        load_model(TASKS["demo"], pretrained="no/where")


def test_a_package_stands_in_for_its_hub_repository(made, tmp_path, monkeypatch):
    package = tmp_path / "fake_weights"
    save_pretrained(made[0], package / "model", tokenizer=made[1])
    (package / "__init__.py").write_text("raise ImportError('only its files are needed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(models.PACKAGES, "some/model", "fake_weights")
    assert load_model(TASKS["demo"], pretrained="some/model", max_length=64)[0].config.hidden_size == 16


def test_a_package_that_is_not_installed_leaves_the_hub(monkeypatch):
    monkeypatch.setitem(models.PACKAGES, "some/model", "certainly_not_installed")
    assert models._packaged("some/model") is None
