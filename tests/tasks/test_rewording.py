"""Copies hold the same labels and as many words, each of them a word of the rows."""

import re

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.tasks import reworded

TEXTS = st.lists(st.text("abcäß ", max_size=12), min_size=1, max_size=6)


def dataset(*texts):
    columns = dict(zip(("text_a", "text_b"), texts, strict=False))
    labels = [i % 2 for i in range(len(texts[0]))]
    features = Features({**{name: Value("string") for name in columns}, "label": ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict({**columns, "label": labels}, features=features)


def words(rows):
    return [[text.split() for text in rows[name][:]] for name in ("text_a", "text_b") if name in rows.column_names]


@pytest.mark.slow
@given(texts=TEXTS, pairs=st.booleans(), copies=st.integers(1, 3), noise=st.sampled_from([0.01, 0.5, 1.0]))
def test_each_copy_has_the_rows_labels_and_as_many_words_out_of_theirs(texts, pairs, copies, noise):
    rows = dataset(texts, texts[::-1]) if pairs else dataset(texts)
    copied = reworded(rows, copies=copies, noise=noise, seed=0)
    assert copied.features == rows.features
    assert copied["label"][:] == rows["label"][:] * copies
    known = {word for column in words(rows) for text in column for word in text}
    for before, after in zip(words(rows), words(copied), strict=True):
        assert [len(text) for text in after] == [len(text) for text in before] * copies
        assert {word for text in after for word in text} <= known


def test_as_many_words_give_way_as_asked_and_frequent_ones_come_more_often():
    rows = dataset([" ".join(["the"] * 3 + [f"word{i}"]) for i in range(2000)])
    copied = reworded(rows, copies=1, noise=0.4, seed=0)
    firsts = [text[3] for text in words(copied)[0]]
    kept = sum(word == f"word{i}" for i, word in enumerate(firsts))
    assert 0.57 < kept / 2000 < 0.63
    assert 0.72 < sum(word == "the" for word in firsts) / (2000 - kept) < 0.78


@pytest.mark.slow
@given(texts=TEXTS, seed=st.integers(0, 9))
def test_a_word_gives_way_to_one_word_in_both_texts_of_a_row_and_signs_stay(texts, seed):
    rows = dataset([f"A. {text}, and ({text})" for text in texts], [f"and {text.upper()}! a" for text in texts])
    copied = reworded(rows, copies=1, noise=0.5, seed=seed)
    for row, copy in zip(rows, copied, strict=True):
        others = {}
        for column in ("text_a", "text_b"):
            before, after = (re.split(r"(\w+)", texts[column]) for texts in (row, copy))
            assert before[::2] == after[::2]
            for word, other in zip(before[1::2], after[1::2], strict=True):
                assert others.setdefault(word.lower(), other.lower()) == other.lower()


def test_a_seed_says_what_copies_are_and_no_two_copies_are_alike():
    rows = dataset([f"some words of row number {i}" for i in range(20)])
    copied = reworded(rows, copies=2, noise=0.5, seed=3)
    assert copied.to_dict() == reworded(rows, copies=2, noise=0.5, seed=3).to_dict()
    assert copied.to_dict() != reworded(rows, copies=2, noise=0.5, seed=4).to_dict()
    assert copied["text_a"][:20] != copied["text_a"][20:]


@pytest.mark.parametrize(
    "options", [{"copies": 0}, {"noise": 0.0}, {"noise": 1.5}, {"noise": float("nan")}, {"noise": "some"}]
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"Expected (at least 1 copy|`noise`)"):
        reworded(dataset(["a b"]), **{"copies": 1, "noise": 0.5, "seed": 0, **options})


def test_rows_with_other_texts_are_refused():
    with pytest.raises(ValueError, match=r"Expected rows with the column 'text_a', got \['context'\]"):
        reworded(Dataset.from_dict({"context": ["a"]}), copies=1, noise=0.5, seed=0)
