import os
import subprocess
import sys
from pathlib import Path
from string import printable

import pytest
from transformers import AutoTokenizer, BertConfig

from axformer_lightning.tasks import vocabulary
from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.tasks.vocabulary import train_wordpiece

ODD = "caf\u00e9 \u2013 \u4e2d\u6587"
# The two files alone: importing the package takes ten times as long as what it is asked for here.
ELSEWHERE = f"""
import importlib.util, sys
def load(name):
    spec = importlib.util.spec_from_file_location(name, {str(Path(vocabulary.__file__).parent)!r} + f"/{{name}}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
texts = [{ODD!r}, *(text for pair in load("demo").demo_pairs(60) for text in pair[:2])]
print(ascii(sorted(load("vocabulary").train_wordpiece(texts, vocab_size=300).get_vocab().items())))
"""


def texts(num_pairs):
    return [text for pair in demo_pairs(num_pairs) for text in pair[:2]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(texts(300))


def test_a_pair_is_encoded_as_bert_expects_it(tokenizer):
    encoded = tokenizer("A captain", "the captain", padding="max_length", max_length=9)
    pieces = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert pieces == ["[CLS]", "a", "captain", "[SEP]", "the", "captain", "[SEP]", "[PAD]", "[PAD]"]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert encoded["attention_mask"] == [1] * 7 + [0] * 2


def test_ids_fit_an_embedding_of_as_many_rows(tokenizer):
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert tokenizer.pad_token_id == BertConfig().pad_token_id == 0


def test_case_and_accents_make_no_difference(tokenizer):
    assert tokenizer.tokenize("The CAPTÁIN") == tokenizer.tokenize("the captain") == ["the", "captain"]


@pytest.mark.parametrize("corpus", [["a"], ["again and again"] * 40])
def test_everything_printable_can_be_spelled_after_hardly_any_text(corpus):
    tokenizer = train_wordpiece(corpus)
    assert len(tokenizer) >= 100
    assert tokenizer.unk_token_id not in tokenizer(f"{printable} z{printable}")["input_ids"]


def test_words_become_pieces_only_up_to_the_size_asked_for():
    assert len(train_wordpiece(texts(300), vocab_size=200)) == 200
    assert len(train_wordpiece(texts(300), vocab_size=2000)) > 200


def test_the_saved_tokenizer_comes_back_next_to_a_config(tokenizer, tmp_path):
    BertConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    for pair in demo_pairs(20, seed=1):
        assert again(*pair[:2], truncation=True) == tokenizer(*pair[:2], truncation=True)


def test_the_maximal_length_truncates_and_is_saved(tmp_path):
    train_wordpiece(texts(20), max_length=16).save_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert len(again("a " * 50, "b " * 50, truncation=True)["input_ids"]) == 16


@pytest.mark.slow
def test_every_process_learns_the_same_vocabulary():
    here = train_wordpiece([ODD, *texts(60)], vocab_size=300).get_vocab()
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ascii(sorted(here.items()))


def test_the_order_of_the_texts_makes_no_difference():
    assert train_wordpiece(reversed(texts(60))).get_vocab() == train_wordpiece(texts(60)).get_vocab()


def test_no_progress_is_shown(capfd):
    train_wordpiece(texts(20))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("nothing", [[], ["", " \n"]])
def test_no_text_is_named(nothing):
    with pytest.raises(ValueError, match=rf"Expected at least one text .*, got {len(nothing)} .*; pass the"):
        train_wordpiece(nothing)


def test_a_size_too_small_to_spell_with_is_named():
    with pytest.raises(ValueError, match=r"Expected `vocab_size` to be at least 109, got 50; make it"):
        train_wordpiece(["a captain"], vocab_size=50)
