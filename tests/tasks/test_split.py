from collections import Counter
from typing import get_args

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.tasks import draw, split_off
from axformer_lightning.tasks.task import Apart


def scored(scores):
    return Dataset.from_dict({"text_a": [f"text {i}" for i in range(len(scores))], "label": scores})


def asked(articles):
    """Questions of articles, given as the number of questions of each paragraph; every third has no answer."""
    rows = []
    for title, paragraphs in articles.items():
        for paragraph, count in enumerate(paragraphs):
            for _ in range(count):
                texts = [] if len(rows) % 3 == 2 else ["words"]
                row = {"id": str(len(rows)), "title": title, "context": f"{title}, paragraph {paragraph}"}
                rows.append(row | {"question": "Why?", "answers": {"text": texts, "answer_start": [0] * len(texts)}})
    return Dataset.from_list(rows)


def ids(rows):
    return rows["id" if "id" in rows.column_names else "text_a"][:]


ARTICLES = asked({"a": [5, 5], "b": [3], "c": [4, 4, 4], "d": [8], "e": [1, 6], "f": [10]})


@given(
    st.lists(st.floats(0, 5), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
)
def test_scores_are_split_whatever_they_are(scores, share, seed):
    rows = scored(scores)
    if share * len(scores) < 1:
        return
    train, search = split_off(rows, share, seed)
    assert sorted(ids(train) + ids(search)) == sorted(ids(rows))
    assert len(search) == int(share * len(scores))
    wanted = Counter(map(round, scores))
    for score, count in Counter(map(round, search["label"][:])).items():
        assert abs(count - wanted[score] * len(search) / len(scores)) < 2


def test_a_score_that_is_rare_is_not_left_out():
    rows = scored([0.0] * 40 + [5.0] * 10)
    for seed in range(20):
        assert Counter(split_off(rows, 10, seed)[1]["label"][:]) == {0.0: 8, 5.0: 2}


@pytest.mark.parametrize("rows", [scored([i % 6 for i in range(60)]), ARTICLES])
@pytest.mark.parametrize("split", [lambda *args: split_off(*args)[1], draw])
def test_the_same_seed_gives_the_same_part(rows, split):
    parts = [ids(split(rows, 10, seed)) for seed in (3, 3, 4, 5, 6)]
    assert parts[0] == parts[1]
    assert len({tuple(part) for part in parts}) > 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_no_article_is_in_both_parts(share, seed):
    train, search = split_off(ARTICLES, share, seed)
    assert sorted(ids(train) + ids(search)) == sorted(ids(ARTICLES))
    assert not set(train["title"]) & set(search["title"])
    assert abs(len(search) - share * len(ARTICLES)) <= 2


def test_the_nearest_article_is_taken_where_none_fits():
    train, search = split_off(asked({"a": [30], "b": [20], "c": [70]}), 0.01 + 1 / 120, 0)
    assert set(search["title"]) == {"b"}
    assert set(train["title"]) == {"a", "c"}


def test_of_one_article_the_paragraphs_are_split():
    train, search = split_off(asked({"": [6, 6, 6, 6]}), 0.25, 0)
    assert (len(train), len(search)) == (18, 6)
    assert not set(train["context"]) & set(search["context"])


def test_of_one_paragraph_the_questions_are_split():
    assert [len(part) for part in split_off(asked({"": [8]}), 0.25, 0)] == [6, 2]


def test_questions_are_drawn_by_whether_they_have_an_answer():
    drawn = draw(ARTICLES, 12, 0)
    assert len(set(ids(drawn))) == 12
    assert sum(not answers["text"] for answers in drawn["answers"]) in (3, 4)  # of 16 in 50


def test_classes_are_drawn_as_they_are_split():
    rows = Dataset.from_dict({"text_a": [str(i) for i in range(30)], "label": [i % 3 for i in range(30)]})
    rows = rows.class_encode_column("label")
    assert ids(draw(rows, 9, 1)) == ids(split_off(rows, 9, 1)[1])
    assert Counter(draw(rows, 9, 1)["label"][:]) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("rows", [scored([1.0] * 10), asked({"a": [5], "b": [5]})])
@pytest.mark.parametrize("part", [0.0, 1.0, 0, 10, 0.05])
def test_a_part_that_leaves_nothing_is_refused(rows, part):
    with pytest.raises(ValueError, match=r"1 to 9 of 10 samples, got .*data\.search_fraction"):
        split_off(rows, part, 0)


WORDS = st.lists(st.sampled_from(["a", "B", "b", "film"]), min_size=1, max_size=5).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=8, max_size=40)


def stands_in(part, whole):
    return f" {part.casefold()} " in f" {whole.casefold()} "


def split_pairs(pairs, apart, names=("text_a", "text_b")):
    columns = {name: [pair[i] for pair in pairs] for i, name in enumerate(names)}
    rows = Dataset.from_dict(columns | {"label": [i % 2 + 0.0 for i in range(len(pairs))]})
    return [list(zip(*(half[name][:] for name in names), strict=True)) for half in split_off(rows, 2, 0, apart)]


@pytest.mark.slow
@given(PAIRS)
def test_rows_that_share_a_text_with_the_search_set_are_not_trained_on(pairs):
    pairs.append(("some", "others"))
    try:
        train, search = split_pairs(pairs, "texts")
    except ValueError:  # all share texts
        return
    held_out = [{pair[i].casefold() for pair in search} for i in range(2)]
    kept = [pair for pair in pairs if not any(text.casefold() in held_out[i] for i, text in enumerate(pair))]
    assert train == kept
    assert len(search) == 2


@pytest.mark.slow
@given(PAIRS)
def test_phrases_go_where_their_sentences_go(pairs):
    texts = [f"{a} {b}" if i % 2 else a for i, (a, b) in enumerate(pairs)]
    texts += [f"sentence {i}" for i in range(4)]
    train, search = ([text for (text,) in half] for half in split_pairs([(t,) for t in texts], "sentences", ["text_a"]))
    held_out = {text.casefold() for text in search}
    whole = {text for text in texts if not any(stands_in(text, t) and t.casefold() != text.casefold() for t in texts)}
    assert set(search) <= whole
    kept = [
        t for t in texts if any(stands_in(t, sentence) for sentence in whole if sentence.casefold() not in held_out)
    ]
    assert train == kept


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="share no text with the search set, got none: 2 of 9 rows"):
        split_pairs([("same", str(i)) for i in range(9)], "texts")


def test_without_shared_texts_the_split_is_that_of_rows():
    for seed in range(3):
        parts = [[ids(half) for half in split_off(scored([1.0] * 30), 7, seed, apart)] for apart in get_args(Apart)]
        assert parts[0] == parts[1]
    assert [len(half) for half in parts[2]] == [23, 7]


def test_drawing_all_is_refused():
    with pytest.raises(ValueError, match=r"`size` of 1 to 9 of 10 samples, got 10"):
        draw(scored([1.0] * 10), 10, 0)


CLASSES = Dataset.from_dict({"text_a": [*"abcdefghij"], "label": [0, 1] * 5}).class_encode_column("label")


@pytest.mark.parametrize("rows", [CLASSES, scored([1.0] * 10)])
@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_draws_nothing_is_refused_by_its_own_name(rows, size):
    with pytest.raises(ValueError, match=rf"^Expected `a\.b` of 1 to 9 of 10 samples, got {size}\. Raise it\.$"):
        draw(rows, size, 0, setting="a.b")


def test_a_size_that_is_too_small_for_every_class_is_refused_by_its_own_name():
    with pytest.raises(ValueError, match=r"every class in 1 of 10: .* Raise `a\.b`\.$"):
        draw(CLASSES, 1, 0, setting="a.b")
    with pytest.raises(ValueError, match=r"every class in 1 of 10: .* Raise `data\.search_fraction`\.$"):
        split_off(CLASSES, 1, 0)
