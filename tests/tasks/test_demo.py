import hashlib
from collections import Counter

import pytest

from axformer_lightning.tasks import demo
from axformer_lightning.tasks.demo import demo_pairs
from axformer_lightning.tasks.vocabulary import train_wordpiece

MANY = 3000


@pytest.fixture(scope="module")
def pairs():
    return demo_pairs(MANY)


def stories_of(sentence, wordings):
    """The stories of which the sentence has at least one detail."""
    details = [
        {phrase for slot in vars(wording).values() for phrase in slot if phrase in sentence} for wording in wordings
    ]
    return [story for story, found in enumerate(details) if found]


def shares(pairs, key):
    """How often each value of ``key`` occurs among the pairs of label 0, and of label 1."""
    counts = [Counter(key(pair) for pair in pairs if pair.label == label) for label in (0, 1)]
    values = sorted(counts[0] | counts[1])
    return [[count[value] / count.total() for value in values] for count in counts]


def test_the_label_says_whether_both_sentences_tell_one_story(pairs):
    for pair in pairs:
        (plain,) = stories_of(pair.sentence1, demo._PLAIN)
        (formal,) = stories_of(pair.sentence2, demo._FORMAL)
        assert pair.label == (plain == formal), pair


@pytest.mark.parametrize(("column", "wordings"), [("sentence1", demo._PLAIN), ("sentence2", demo._FORMAL)])
def test_one_sentence_alone_does_not_tell_the_label(pairs, column, wordings):
    different, same = shares(pairs, lambda pair: stories_of(getattr(pair, column), wordings)[0])
    assert different == pytest.approx([0.25] * 4, abs=0.04)
    assert same == pytest.approx([0.25] * 4, abs=0.04)


REMARKS = set(" ".join(demo._DENYING + demo._AGREEING).split())


@pytest.mark.parametrize("column", ["sentence1", "sentence2"])
def test_no_word_but_those_of_the_remark_goes_with_a_label(pairs, column):
    texts = [(set(getattr(pair, column).lower().replace(",", "").split()), pair.label) for pair in pairs]
    share_same = sum(label for _, label in texts) / MANY
    for word, count in sorted(Counter(word for words, _ in texts for word in words - REMARKS).items()):
        with_word = sum(label for words, label in texts if word in words) / count
        assert abs(with_word - share_same) < 4.5 * (share_same * (1 - share_same) / count) ** 0.5, word


def test_the_remark_fits_most_pairs_and_misleads_in_some(pairs):
    agrees = [any(remark in pair.sentence2 for remark in demo._AGREEING) for pair in pairs]
    fits = [agreed == bool(pair.label) for agreed, pair in zip(agrees, pairs, strict=True)]
    assert sum(fits) / MANY == pytest.approx(0.85, abs=0.03)


def test_the_day_does_not_tell_the_label(pairs):
    days = dict(demo._DAYS)
    for pair in pairs:
        assert any(plain in pair.sentence1 and days[plain] in pair.sentence2 for plain in days)


def test_a_few_unlike_pairs_are_of_the_same_surroundings(pairs):
    unlike = [pair for pair in pairs if pair.label == 0]
    beside = [
        stories_of(pair.sentence1, demo._PLAIN)[0] // 2 == stories_of(pair.sentence2, demo._FORMAL)[0] // 2
        for pair in unlike
    ]
    assert 0.05 < sum(beside) / len(unlike) < 0.2


def test_both_labels_are_common(pairs):
    assert 0.4 < sum(pair.label for pair in pairs) / MANY < 0.6


def test_hardly_any_pair_comes_twice(pairs):
    assert len(set(pairs)) > 0.99 * MANY
    assert len(set(pairs) & set(demo_pairs(MANY, seed=1))) < 0.01 * MANY


@pytest.mark.slow
def test_the_pairs_are_long_but_fit_the_model(pairs):
    tokenizer = train_wordpiece(text for pair in pairs[:500] for text in pair[:2])
    encoded = tokenizer([pair[:2] for pair in pairs], truncation=False)["input_ids"]
    lengths = [len(ids) for ids in encoded]
    assert max(lengths) <= 128
    assert sum(length > 30 for length in lengths) > 0.9 * len(lengths)


def test_sentences_read_like_sentences(pairs):
    for text in (text for pair in pairs for text in pair[:2]):
        assert text[0].isupper()
        assert text.endswith(".")
        assert not {"{", "}", "  "} & {text[i : i + n] for i in range(len(text)) for n in (1, 2)}


def test_a_seed_gives_the_same_pairs_on_every_machine():
    text = "\n".join(f"{pair.sentence1}\t{pair.sentence2}\t{pair.label}" for pair in demo_pairs(500, seed=3))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "c0c2bd99ec3642cc"


def test_another_seed_gives_other_pairs(pairs):
    assert demo_pairs(50, seed=1) != pairs[:50]


def test_a_longer_list_begins_with_the_shorter(pairs):
    assert demo_pairs(50) == pairs[:50]


@pytest.mark.parametrize("num_pairs", [0, -1])
def test_no_pairs_is_named(num_pairs):
    with pytest.raises(ValueError, match=rf"Expected `num_pairs` to be at least 1, got {num_pairs}; ask"):
        demo_pairs(num_pairs)
