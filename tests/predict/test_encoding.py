"""Tokens as transformers makes them; as many as there are positions."""

import json

import pytest
import torch

from axformer_lightning.predict.encoding import encode, load_tokenizer, longest_input, padded

CONFIG = {"vocab_size": 10_000, "pad_token_id": 0}


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_inputs_are_those_of_transformers(tokenizer, saved):
    pairs = [("An otter swims.", "It rained"), ("rain", "the cold river"), ("", "a")]
    words = load_tokenizer(saved, CONFIG)
    found = padded([encode(words, pair, 64, None, "") for pair in pairs], 0)
    expected = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="np")
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)


def test_a_longer_input_is_cut_as_transformers_does(tokenizer, saved):
    texts = ("an otter swims in the cold river " * 3, "it rained a lot")
    found = encode(load_tokenizer(saved, CONFIG), texts, 64, 12, "")
    assert found.ids == tokenizer(*texts, truncation=True, max_length=12)["input_ids"]


def test_cutting_one_input_leaves_the_next_alone(saved):
    words = load_tokenizer(saved, CONFIG)
    encode(words, ("rain " * 30,), 64, 8, "")
    assert len(encode(words, ("rain " * 30,), 64, None, "").ids) == 32


def test_a_text_beyond_the_positions_is_refused(saved):
    with pytest.raises(ValueError, match=r"Expected at most 20 tokens.*got 32 in row 7.*--max-length 20"):
        encode(load_tokenizer(saved, CONFIG), ("rain " * 30,), 20, None, "row 7")


@pytest.mark.one_implementation
def test_a_model_reads_as_many_tokens_as_said_and_no_more(family, model):
    if family == "vit":
        return
    longest = longest_input(model.config.to_dict())
    ids = torch.full((1, min(longest, 70)), 7)
    model(input_ids=ids, attention_mask=torch.ones_like(ids))
    if family not in ("modernbert", "deberta-v2"):  # which turn positions into angles or distances: none is missing
        ids = torch.full((1, longest + 1), 7)
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_relative_positions_have_no_end():
    assert longest_input({"max_position_embeddings": 512, "position_biased_input": False}) > 10**6


@pytest.mark.parametrize(
    ("config", "message"),
    [({"vocab_size": 20}, "which knows 20 tokens, got"), ({"pad_token_id": 1}, "which pads with token 1, got")],
)
def test_the_tokenizer_of_another_model_is_refused(saved, config, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(saved, CONFIG | config)


def test_a_missing_and_a_broken_tokenizer_are_named(saved):
    (saved / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="Cannot read the tokenizer"):
        load_tokenizer(saved, CONFIG)
    (saved / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.save_pretrained"):
        load_tokenizer(saved, CONFIG)


def test_a_tokenizer_without_its_settings_is_enough(saved):
    (saved / "tokenizer_config.json").write_text(json.dumps([]))
    assert load_tokenizer(saved, CONFIG).token_to_id("[PAD]") == 0
