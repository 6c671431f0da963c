import json
import logging

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from axformer_lightning.tasks.squad import align_answers, read_squad

ANSWER = {"text": "a heron", "answer_start": 10}
QUESTION = {"id": "q", "question": "Who came?", "answers": [ANSWER]}


def tree(question=QUESTION, **changes):
    paragraph = {"context": "Yesterday a heron came.", "qas": [question]} | changes
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}


def write(tmp_path, content):
    path = tmp_path / "train-v1.1.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_every_question_of_an_official_file_is_a_row_with_the_hubs_columns(folder, version):
    path = folder / f"dev-v{version}.json"
    rows = read_squad(path, with_impossible=version == "2.0")
    expected = [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {name: [answer[name] for answer in question["answers"]] for name in ("text", "answer_start")},
        }
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    assert rows.to_list() == expected
    assert len(rows) == 40


def test_files_of_v1_may_be_read_for_v2(folder):
    assert len(read_squad(folder / "dev-v1.1.json", with_impossible=True)) == 40


def test_impossible_questions_are_refused_where_all_should_have_answers(folder):
    with pytest.raises(
        ValueError, match=r"dev-v2\.0\.json'.*data\[0\]\.paragraphs\[0\]\.qas\[1\]: use `task=squad_v2`"
    ):
        read_squad(folder / "dev-v2.0.json", with_impossible=False)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-v1\.1\.json'.*`data_dir` or SQUAD_DIR"):
        read_squad(tmp_path / "train-v1.1.json", with_impossible=False)


def test_what_is_not_json_is_told_by_line_and_column(tmp_path):
    with pytest.raises(ValueError, match=r"train-v1\.1\.json'.*line 2, column 10: "):
        read_squad(write(tmp_path, '{"data":\n  [{"id" 7}]}'), with_impossible=False)


def test_another_encoding_is_told(tmp_path):
    path = tmp_path / "train-v1.1.json"
    path.write_bytes(json.dumps(tree(context="caf\u00e9 a heron"), ensure_ascii=False).encode("latin-1"))
    with pytest.raises(ValueError, match=r"UTF-8 in '.*train-v1\.1\.json'"):
        read_squad(path, with_impossible=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"an object with 'data' at the top, got a list"),
        ({"version": "1.1"}, r"a list at data, got only \['version'\]"),
        ({"data": {}}, r"a list at data, got an object"),
        ({"data": [3]}, r"an object with 'title' at data\[0\], got a whole number"),
        (tree(context=None), r"a string at data\[0\]\.paragraphs\[0\]\.context, got null"),
        (tree({"question": "?", "answers": [ANSWER]}), r"a string at .*\.qas\[0\]\.id, got only \['answers', 'q"),
        (tree(QUESTION | {"question": 4}), r"a string at .*\.qas\[0\]\.question, got a whole number"),
        (tree(QUESTION | {"answers": [{"text": "a"}]}), r"a whole number at .*\.answers\[0\]\.answer_start, got only"),
        (tree(QUESTION | {"answers": [ANSWER | {"answer_start": 1.5}]}), r"a whole number at .*start, got float"),
        (tree(QUESTION | {"answers": [ANSWER | {"answer_start": True}]}), r"a whole number at .*start, got true"),
        (tree(QUESTION | {"is_impossible": "no"}), r"true or false at .*\.qas\[0\]\.is_impossible, got a string"),
        (tree(QUESTION | {"is_impossible": True}), r"answers if and only if .* got 1 and True at .*\.qas\[0\]"),
        (tree(QUESTION | {"answers": [], "is_impossible": False}), r"answers if and only if .* got 0 and False"),
        (tree(qas=[QUESTION, QUESTION]), r"unique id at .*\.qas\[1\]\.id, got 'q' as at .*\.qas\[0\]\.id"),
    ],
)
def test_json_that_is_not_squad_is_told_by_its_path(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"train-v1\.1\.json' does not have .* the task\. Expected .*{message}"):
        read_squad(write(tmp_path, content), with_impossible=True)


def rows_of(*contexts_and_answers):
    columns = zip(*contexts_and_answers, strict=True)
    contexts, answers = map(list, columns)
    count = len(contexts)
    ids = [f"q{i}" for i in range(count)]
    return Dataset.from_dict(
        {"id": ids, "title": [""] * count, "context": contexts, "question": ["?"] * count, "answers": answers}
    )


def answers_of(*pairs):
    return {"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]}


ASKED = st.tuples(st.text("ab ", min_size=1, max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-3, 15))


@settings(max_examples=10)
@given(st.lists(ASKED, min_size=6, max_size=12))
def test_an_answer_moves_to_the_nearest_place_that_holds_it(asked):
    rows = rows_of(*((context, answers_of((text, start))) for context, text, start in asked))
    for (context, text, start), row in zip(asked, align_answers(rows, drop=False), strict=True):
        places = [i for i in range(len(context)) if context[i : i + len(text)] == text]
        (place,) = row["answers"]["answer_start"]
        if places:
            assert place in places
            assert abs(place - start) == min(abs(other - start) for other in places)
        else:
            assert place == -1


def test_answers_in_their_places_change_nothing_and_are_not_told(train, caplog):
    assert align_answers(train, drop=True) is train
    assert caplog.records == []


BAD = (
    ("one heron", answers_of(("heron", 4))),
    ("two herons, one heron", answers_of(("heron", 13))),
    ("no bird", answers_of(("heron", 0))),
    ("a heron", answers_of(("stork", 0), ("heron", 2))),
    ("nothing is asked for", answers_of()),
)


@pytest.mark.parametrize("drop", [True, False])
def test_what_the_context_does_not_hold_leaves_only_where_it_would_be_learnt(drop, caplog):
    aligned = align_answers(rows_of(*BAD), drop=drop)
    starts = {row["id"]: row["answers"]["answer_start"] for row in aligned}
    lost = {} if drop else {"q2": [-1]}
    assert starts == {"q0": [4], "q1": [16], "q3": [2] if drop else [-1, 2], "q4": []} | lost


def test_answers_out_of_place_are_told_once_with_their_number(caplog):
    align_answers(rows_of(*BAD, *BAD[2:3] * 4), drop=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "7 of 9 questions" in record.getMessage()
    assert "(ids q1, q2, q3, q5, q6, ...)" in record.getMessage()
    assert "5 have none and are removed" in record.getMessage()
