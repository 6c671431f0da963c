import huggingface_hub
import pytest
import sentencepiece
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizer,
)

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
    assert tokenizer.model_max_length == 64
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


@pytest.mark.parametrize("name", ["stsb", "squad"])
def test_a_head_of_the_right_kind_is_made_and_kept(name, tmp_path):
    model, tokenizer = load_model(TASKS[name], config=CONFIG, texts=TEXTS, max_length=64)
    save_pretrained(model, tmp_path, tokenizer=tokenizer)
    again, _ = load_model(TASKS[name], pretrained=str(tmp_path), max_length=64)
    assert type(again).__name__ == {"stsb": "BertForSequenceClassification", "squad": "BertForQuestionAnswering"}[name]
    assert again.config.num_labels == {"stsb": 1, "squad": 2}[name]
    assert again.config.problem_type == {"stsb": "regression", "squad": None}[name]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_fine_tuned_head_is_kept_where_the_number_of_labels_is_right(made, tmp_path):
    save_pretrained(made[0], tmp_path, tokenizer=made[1])
    again, _ = load_model(TASKS["rte"], pretrained=str(tmp_path), max_length=64)
    assert torch.equal(again.classifier.weight, made[0].classifier.weight)


@pytest.mark.parametrize(("name", "wanted"), [("mnli", 3), ("stsb", 1)])
def test_a_fine_tuned_head_for_other_labels_is_refused(made, tmp_path, name, wanted):
    save_pretrained(made[0], tmp_path, tokenizer=made[1])
    with pytest.raises(
        ValueError, match=rf"for {wanted} labels, .*got '{tmp_path}' with a head for 2\. Or start without"
    ):
        load_model(TASKS[name], pretrained=str(tmp_path), max_length=64)


@pytest.mark.parametrize("names", [("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_a_fine_tuned_head_for_the_labels_in_another_order_is_refused(tmp_path, names):
    """As many of the hub's models for MNLI have it; without names of their own nobody knows."""
    model, tokenizer = load_model(TASKS["mnli"], config=CONFIG, texts=TEXTS, max_length=64)
    model.config.id2label = dict(enumerate(names))
    save_pretrained(model, tmp_path, tokenizer=tokenizer)
    if names[0] == "LABEL_0":
        load_model(TASKS["mnli"], pretrained=str(tmp_path), max_length=64)
        return
    with pytest.raises(ValueError, match=r"\['entailment', .*in this order, got .*\['CONTRADICTION', .*Bring the rows"):
        load_model(TASKS["mnli"], pretrained=str(tmp_path), max_length=64)


def test_an_encoder_may_have_said_any_number_of_labels(made, tmp_path):
    made[0].config.num_labels = 7
    save_pretrained(made[0].bert, tmp_path, tokenizer=made[1])
    assert load_model(TASKS["mnli"], pretrained=str(tmp_path), max_length=64)[0].config.num_labels == 3


def test_a_head_of_another_kind_is_left_behind(made, tmp_path):
    save_pretrained(made[0], tmp_path, tokenizer=made[1])
    model, _ = load_model(TASKS["squad"], pretrained=str(tmp_path), max_length=64)
    query = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.bert.state_dict()[query], made[0].bert.state_dict()[query])


def test_a_tokenizer_without_a_pad_token_is_refused(made, tmp_path):
    made[1].pad_token = None
    save_pretrained(made[0], tmp_path, tokenizer=made[1])
    with pytest.raises(ValueError, match=r"a tokenizer with a pad token, .*`tokenizer\.pad_token = "):
        load_model(TASKS["mrpc"], pretrained=str(tmp_path), max_length=64)


def test_weights_that_were_cut_off_are_told_with_their_directory(made, tmp_path):
    save_pretrained(made[0], tmp_path, tokenizer=made[1])
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(OSError, match=f"a model, got '{tmp_path}': "):
        load_model(TASKS["mrpc"], pretrained=str(tmp_path), max_length=64)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "mpnet"])
def test_a_directory_without_a_tokenizer_is_refused(tmp_path, family):
    config = AutoConfig.for_model(family, vocab_size=9, pad_token_id=0, hidden_size=8, num_attention_heads=2)
    AutoModel.from_config(config).save_pretrained(tmp_path)  # as the message about a fine-tuned head advises
    with pytest.raises(ValueError, match=rf"a tokenizer beside the model in '{tmp_path}', one of .*got none.*Save"):
        load_model(TASKS["mrpc"], pretrained=str(tmp_path), max_length=64)


def test_a_directory_in_the_layout_of_sentence_transformers_is_loaded(tmp_path):
    words = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "the", "ferry", "left"]
    config = MPNetConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    encoder = MPNetModel(config)
    encoder.save_pretrained(tmp_path)
    MPNetTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.Transformer"}]')
    model, tokenizer = load_model(TASKS["rte"], pretrained=str(tmp_path), max_length=64)
    assert type(model).__name__ == "MPNetForSequenceClassification"
    assert torch.equal(model.mpnet.embeddings.word_embeddings.weight, encoder.embeddings.word_embeddings.weight)
    assert tokenizer("the ferry", "left")["input_ids"] == [0, 5, 6, 2, 2, 7, 2]


def test_neither_source_is_refused():
    with pytest.raises(ValueError, match=r"model\.pretrained"):
        load_model(TASKS["demo"])


def test_a_model_that_can_be_had_from_nowhere_is_told_with_the_ways_out(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"(?s)'no/where'.*model=minilm.*python train\.py"):
        load_model(TASKS["demo"], pretrained="no/where")


@pytest.mark.parametrize("path", ["/no/where", "./where", "no/where/at/all"])
def test_a_path_that_leads_nowhere_is_told_as_a_path(path):
    with pytest.raises(OSError, match=rf"got '{path}': there is no such directory\. Without the hub, pass"):
        load_model(TASKS["demo"], pretrained=path)


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


def test_a_tokenizer_in_its_original_form_is_loaded(tmp_path):
    """As the hub has DeBERTa-v3: the file of SentencePiece and no `tokenizer.json`."""
    pieces = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_prefix=str(tmp_path / "spm"), vocab_size=30, eos_piece="[SEP]",
        unk_piece="[UNK]", hard_vocab_limit=False, minloglevel=2, **pieces,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    DebertaV2Model(DebertaV2Config(vocab_size=40, **sizes)).save_pretrained(tmp_path)
    model, tokenizer = load_model(TASKS["squad"], pretrained=str(tmp_path))
    encoded = tokenizer("a ferry left", return_offsets_mapping=True, return_tensors="pt")
    assert tokenizer.is_fast
    assert encoded["offset_mapping"][0, -2, 1] == len("a ferry left")
    assert model(encoded["input_ids"]).start_logits.shape == encoded["input_ids"].shape


def test_a_config_without_a_family_is_refused():
    with pytest.raises(ValueError, match=r"Expected `model\.config` with `model_type`, .* got \['hidden_size'\]"):
        load_model(TASKS["mrpc"], config={"hidden_size": 16}, texts=TEXTS)


def test_a_family_without_a_row_is_refused_before_it_is_fine_tuned():
    with pytest.raises(ValueError, match=r"one of the families \[.*got model_type 'gpt2'\..*register_family"):
        load_model(TASKS["mrpc"], config={**CONFIG, "model_type": "gpt2"}, texts=TEXTS, max_length=64)
