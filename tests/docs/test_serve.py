"""docs/examples/serve.py answers, and a bad request does not end it."""

import importlib.util
import json
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import pytest

FILE = Path(__file__).parents[2] / "docs/examples/serve.py"


def predictor(rows):
    for row in rows:
        if row["text"] == "long":
            raise ValueError("Expected at most 64 tokens, got 65.")
        yield {"label": row["text"].upper()}


@pytest.fixture
def ask():
    """Sends a body to the example, which serves a predictor that shouts."""
    spec = importlib.util.spec_from_file_location("serve", FILE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with example.make_server(predictor, port=0) as server:
        Thread(target=server.serve_forever, daemon=True).start()

        def send(body, **headers):
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            rows = [json.loads(line) for line in response.read().splitlines()]
            connection.close()
            return response.status, rows

        yield send
        server.shutdown()


def test_rows_are_answered_in_their_order(ask):
    assert ask('{"text": "é"}\n{"text": "b"}\n'.encode()) == (200, [{"label": "É"}, {"label": "B"}])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff", "Expected UTF-8"),
        (b"{", "Expected JSON"),
        (b'{"text": "long"}', "at most 64 tokens"),
        (b"3", "object"),
    ],
)
def test_a_bad_request_is_told_so_and_the_next_is_answered(ask, body, said):
    status, (row,) = ask(body)
    assert status == 400
    assert said in row["error"]
    assert ask(b'{"text": "a"}') == (200, [{"label": "A"}])


def test_a_body_that_is_too_large_is_not_read(ask):
    status, (row,) = ask(b"", **{"Content-Length": str(10**9)})
    assert status == 413
    assert "at most 1048576 bytes" in row["error"]
