"""The service of the documentation answers what `predict` says, and refuses what it cannot read."""

import importlib.util
import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from axformer_lightning.exporting.texts import Predictor, open_model
from tests.exporting.test_predict import saved, tokenizer  # noqa: F401


@pytest.fixture
def ask(saved):  # noqa: F811
    path = Path(__file__).parents[2] / "docs" / "examples" / "serve.py"
    spec = importlib.util.spec_from_file_location("serve", path)
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    server = ThreadingHTTPServer(("127.0.0.1", 0), serve.handler(Predictor(open_model(saved[1]))))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def post(body, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    yield post
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_list_of_samples_is_answered(ask, saved):  # noqa: F811
    samples = [{"text": "w1 w2"}, {"text": "w3", "text_pair": "w4"}]
    got = ask(json.dumps(["w1 w2", samples[1]]).encode())
    assert got == list(Predictor(open_model(saved[1]))(samples))


@pytest.mark.parametrize("body", [b'"w1"', b"\xff", b"[1]", b'[{"context": "w1"}]'])
def test_what_cannot_be_read_is_refused(ask, body):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(body)
    assert refused.value.code == 400
    assert json.loads(refused.value.read())["error"]
    refused.value.close()


@pytest.mark.parametrize("length", ["many", "-1", str(10**9)])
def test_a_length_that_is_none_or_too_large_is_refused_before_anything_is_read(ask, length):
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(b"[]", **{"Content-Length": length})
    assert refused.value.code == 413
    assert length in json.loads(refused.value.read())["error"]
    refused.value.close()
