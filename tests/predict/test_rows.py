"""Rows of JSON lines and what is refused."""

import pytest

from axformer_lightning.predict.rows import read_rows, rest_of, texts_of


def test_lines_are_rows_in_order_and_empty_lines_are_none():
    lines = [b'\xef\xbb\xbf{"text": "a", "id": 1}\r\n', b"\n", b'{"text": "\xc3\xa9", "text_pair": "b"}']
    rows = list(read_rows(lines, "x"))
    assert [texts_of(row, "") for row in rows] == [("a",), ("é", "b")]
    assert [rest_of(row) for row in rows] == [{"id": 1}, {}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\xff", "Expected UTF-8 in line 2 of x"),
        (b"{", "Expected JSON in line 2 of x"),
        (b'{"text": NaN}', "Expected JSON in line 2 of x"),
        (b"null", "Expected line 2 of x to be a JSON object, got NoneType"),
        (b'["text"]', "Expected line 2 of x to be a JSON object, got list"),
        (b'{"sentence": "a"}', r"Expected line 2 of x to have `text`.*got \['sentence'\]"),
        (b'{"text_pair": "a"}', "Expected line 2 of x to have `text`"),
        (b'{"text": "a", "context": "b"}', "Expected line 2 of x to have `text`"),
        (b'{"text": 3}', "Expected `text` of line 2 of x to be a text, got int"),
        (b'{"text": "\\ud800"}', "Expected `text` of line 2 of x in UTF-8"),
    ],
)
def test_a_malformed_line_is_named(line, message):
    rows = read_rows([b'{"text": "fine"}', line], "x")
    assert next(rows) == {"text": "fine"}
    with pytest.raises(ValueError, match=message):
        next(rows)
