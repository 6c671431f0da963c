"""Tokens as transformers makes them."""

import pytest

from axformer_lightning.predict.encoding import encode, padded, read_tokenizer


def load(directory, num_tokens=10_000):
    return read_tokenizer((directory / "tokenizer.json").read_text(), "here", num_tokens)


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_inputs_are_those_of_transformers(tokenizer, saved):
    pairs = [("An otter swims.", "It rained"), ("rain", "the cold river"), ("", "a")]
    words = load(saved)
    found = padded([encode(words, pair, 64, None, "") for pair in pairs], 0)
    expected = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="np")
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)


def test_a_longer_input_is_cut_as_transformers_does(tokenizer, saved):
    texts = ("an otter swims in the cold river " * 3, "it rained a lot")
    found = encode(load(saved), texts, 64, 12, "")
    assert found.ids == tokenizer(*texts, truncation=True, max_length=12)["input_ids"]


def test_cutting_one_input_leaves_the_next_alone(saved):
    words = load(saved)
    encode(words, ("rain " * 30,), 64, 8, "")
    assert len(encode(words, ("rain " * 30,), 64, None, "").ids) == 32


def test_a_text_beyond_the_positions_is_refused(saved):
    with pytest.raises(ValueError, match=r"Expected at most 20 tokens.*got 32 in row 7.*--max-length 20"):
        encode(load(saved), ("rain " * 30,), 20, None, "row 7")


def test_the_tokenizer_of_another_model_is_refused(tokenizer, saved):
    load(saved, len(tokenizer))
    with pytest.raises(ValueError, match=rf"which knows {len(tokenizer) - 1} tokens, got the one in 'here'"):
        load(saved, len(tokenizer) - 1)


def test_a_missing_and_a_broken_tokenizer_are_named(saved):
    with pytest.raises(ValueError, match=r"Expected a tokenizer in 'here', got none.*`tokenizer=`"):
        read_tokenizer("", "here", 50)
    (saved / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="Cannot read the tokenizer in 'here'"):
        load(saved)
