import pytest
from datasets import Dataset

from axformer_lightning.tasks import without_dev_rows


def rows(*texts, **columns):
    return Dataset.from_dict({"text_a": list(texts), "label": [0] * len(texts), **columns})


def test_a_row_of_dev_is_taken_out_whatever_its_label_case_and_white_space(caplog):
    kept = [f"It rained on day {i}." for i in range(40)]
    dev = {"": rows("The sun shone."), "_mismatched": rows("Snow  FELL.")}
    found = without_dev_rows(rows(*kept[:20], "the sun\tshone. ", *kept[20:], "Snow fell."), dev)
    assert found["text_a"][:] == kept
    assert "2 of 42 rows of the search set are in dev, too" in caplog.text


def test_pairs_are_compared_as_pairs():
    one = rows("a", text_b=["b c"])
    for other in (rows("a b", text_b=["c"]), rows("b c", text_b=["a"])):
        assert len(without_dev_rows(one, {"": other})) == 1
    with pytest.raises(ValueError, match="got 1 of 1 rows that are in both"):
        without_dev_rows(one, {"": one})


def test_a_question_about_another_text_is_another_row():
    search = Dataset.from_dict({"question": ["Who?"], "context": ["It was Ada."]})
    dev = {"": Dataset.from_dict({"question": ["Who?"], "context": ["It was Alan."]})}
    assert without_dev_rows(search, dev) is search


def test_a_dev_set_that_is_not_held_out_is_refused():
    texts = [f"It rained on day {i}." for i in range(100)]
    with pytest.raises(ValueError, match=r"got 6 of 100 rows that are in both. Give files whose dev set is held out"):
        without_dev_rows(rows(*texts), {"": rows(*texts[:6], "else")})
    assert len(without_dev_rows(rows(*texts), {"": rows(*texts[:5], "else")})) == 95
