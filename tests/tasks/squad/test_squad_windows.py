from itertools import pairwise

import pytest
from transformers import CanineTokenizer

from axformer_lightning.tasks.squad import make_windows

MAX_LENGTH, DOC_STRIDE = 48, 12


@pytest.fixture(scope="module")
def windows(train, tokenizer):
    return make_windows(train, tokenizer, MAX_LENGTH, DOC_STRIDE, first_id=100).to_list()


def context_offsets(window):
    return [tuple(pair) for pair in window["offsets"] if pair != [-1, -1]]


def of_question(windows, i):
    return [window for window in windows if window["sample_ids"] == 100 + i]


def test_a_question_has_as_many_windows_as_its_context_needs(train, windows, tokenizer):
    counts = [len(of_question(windows, i)) for i in range(len(train))]
    assert max(counts) > min(counts) > 1
    assert len(make_windows(train, tokenizer, 300, DOC_STRIDE)) == len(train)


def test_a_labelled_span_is_the_answer(train, windows):
    labelled = set()
    for window in windows:
        row = train[window["sample_ids"] - 100]
        first, last = window["start_positions"], window["end_positions"]
        if first:
            begin, end = window["offsets"][first][0], window["offsets"][last][1]
            assert row["context"][begin:end].strip() == row["answers"]["text"][0]
            assert begin <= row["answers"]["answer_start"][0] <= begin + 1
            labelled.add(row["id"])
    assert labelled == set(train["id"])


def test_a_window_is_labelled_exactly_where_it_holds_the_whole_answer(train, windows):
    for window in windows:
        answers = train[window["sample_ids"] - 100]["answers"]
        begin, end = answers["answer_start"][0], answers["answer_start"][0] + len(answers["text"][0])
        offsets = context_offsets(window)
        holds = offsets[0][0] <= begin and end <= offsets[-1][1]
        assert (window["start_positions"] > 0) is (window["end_positions"] > 0) is holds


def test_a_window_is_question_and_context_and_no_longer_than_asked_for(train, windows, tokenizer):
    specials = set(tokenizer.all_special_ids)
    for window in windows:
        row = train[window["sample_ids"] - 100]
        offsets = window["offsets"]
        assert len(window["input_ids"]) == len(offsets) == len(window["attention_mask"]) <= MAX_LENGTH
        question = tokenizer(row["question"].strip(), add_special_tokens=False)["input_ids"]
        assert window["input_ids"][: len(question) + 2][1:-1] == question
        first = offsets.index(list(context_offsets(window)[0]))
        assert first == len(question) + tokenizer.num_special_tokens_to_add(pair=True) - 1
        assert not specials & set(window["input_ids"][first : first + len(context_offsets(window))])


def test_offsets_spell_the_tokens(train, windows, tokenizer):
    for window in windows:
        context = train[window["sample_ids"] - 100]["context"]
        for token, (begin, end) in zip(window["input_ids"], window["offsets"], strict=True):
            if begin >= 0 and context[begin:end].isascii():
                spelled = tokenizer.decode([token]).removeprefix("##").strip()
                assert spelled.lower() == context[begin:end].strip().lower()


def test_windows_stand_in_order_and_overlap_as_asked_for(train, windows):
    ids = [window["sample_ids"] for window in windows]
    assert ids == sorted(ids)
    for i in range(len(train)):
        parts = [context_offsets(window) for window in of_question(windows, i)]
        assert parts[0][0][0] == 0
        assert parts[-1][-1][1] == len(train[i]["context"])
        for before, after in pairwise(parts):
            assert before[-DOC_STRIDE:] == after[:DOC_STRIDE]
            assert before[-DOC_STRIDE - 1] not in after


def test_an_impossible_question_is_labelled_with_the_first_token(dev_v2, wordpiece):
    windows = make_windows(dev_v2, wordpiece, MAX_LENGTH, DOC_STRIDE).to_list()
    impossible = [window for window in windows if not dev_v2[window["sample_ids"]]["answers"]["text"]]
    assert len(impossible) > 10
    assert {(window["start_positions"], window["end_positions"]) for window in impossible} == {(0, 0)}


def test_the_first_answer_that_the_context_holds_is_the_label(dev, wordpiece):
    row = dev[0] | {"answers": {"text": ["not there", "lighthouse"], "answer_start": [-1, 19]}}
    (window, *_) = make_windows(dev.from_list([row]), wordpiece, MAX_LENGTH, DOC_STRIDE)
    assert window["offsets"][window["start_positions"]][0] == 19
    assert window["offsets"][window["end_positions"]][1] == 19 + len("lighthouse")


def test_token_types_are_there_where_the_tokenizer_gives_them(windows, tokenizer):
    assert ("token_type_ids" in windows[0]) == ("token_type_ids" in tokenizer.model_input_names)


@pytest.mark.slow
def test_more_rows_than_are_tokenized_at_a_time_are_numbered_on(dev, wordpiece):
    rows = dev.select([i % 40 for i in range(1010)])
    windows = make_windows(rows, wordpiece, 100, 12)
    assert sorted(set(windows["sample_ids"])) == list(range(1010))
    assert (
        windows[-1]["input_ids"][1:8]
        == make_windows(dev, wordpiece, 100, 12).filter(lambda window: window["sample_ids"] == 1009 % 40)[-1][
            "input_ids"
        ][1:8]
    )


@pytest.mark.slow
def test_a_tokenizer_without_offsets_is_refused(train):
    with pytest.raises(ValueError, match=r"characters of its tokens, got CanineTokenizer.*: use a fast one"):
        make_windows(train, CanineTokenizer())


def longest_question(rows, tokenizer):
    lengths = [len(tokenizer(text.strip(), add_special_tokens=False)["input_ids"]) for text in rows["question"]]
    return max(lengths), rows["id"][lengths.index(max(lengths))]


@pytest.mark.slow_but_first
def test_too_large_a_stride_is_refused_and_the_largest_possible_one_named(train, tokenizer):
    length, id_ = longest_question(train, tokenizer)
    taken = length + tokenizer.num_special_tokens_to_add(pair=True)
    room = 40 - taken
    message = (
        rf"doc_stride={room}` of `data\.max_length=40`.*got {room} next to question '{id_}' of {length}: set"
        rf" `data\.max_length` to at least 41, or `data\.doc_stride` to at most {room - 1}\."
    )
    with pytest.raises(ValueError, match=message):
        make_windows(train, tokenizer, 40, room)
    assert len(make_windows(train, tokenizer, 40, room - 1)) > len(make_windows(train, tokenizer, 41, 0))
    assert len(make_windows(train, tokenizer, 41, room)) > 0


def test_a_question_that_leaves_no_room_is_refused(train, wordpiece):
    length, _ = longest_question(train, wordpiece)
    with pytest.raises(
        ValueError, match=rf"got 0 next to .*: set `data\.max_length` to at least {length + 3 + 12 + 1}\.$"
    ):
        make_windows(train, wordpiece, length, 12)


@pytest.mark.parametrize("stride", [DOC_STRIDE, 1000])
def test_a_long_question_with_a_context_that_fits_is_one_window(train, tokenizer, stride):
    row = train[0] | {"question": "when " * 30, "context": train[0]["answers"]["text"][0]}
    row["answers"] = row["answers"] | {"answer_start": [0]}
    whole = len(tokenizer(row["question"].strip(), row["context"])["input_ids"])
    rows = train.from_list([row])
    (window,) = make_windows(rows, tokenizer, whole, stride)
    assert len(window["input_ids"]) == whole
    assert window["start_positions"] > 0
    with pytest.raises(ValueError, match=rf"got \d+ next to question '{row['id']}'"):
        make_windows(rows, tokenizer, whole - 1, stride)


def test_the_longest_question_that_leaves_no_room_is_named(train, tokenizer):
    answers = {"text": ["it"], "answer_start": [0]}
    fits = train[0] | {"id": "fits", "question": "when " * 35, "context": "it", "answers": answers}
    whole = len(tokenizer(fits["question"].strip(), fits["context"])["input_ids"])
    long = train[0] | {"id": "long", "question": "when " * 34}
    with pytest.raises(ValueError, match=r"next to question 'long'"):
        make_windows(train.from_list([fits, long, train[1]]), tokenizer, whole, 1000)
