"""Answers over HTTP: lines of JSON in, lines of JSON out, with nothing but Python's own server.

`python docs/examples/serve.py MODEL [PORT]`, then
`curl -d '{"text": "It rained."}' localhost:8000`
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from axformer_lightning.predict import load_predictor
from axformer_lightning.predict.rows import read_rows

MOST_BYTES = 1 << 20  # of a request
SECONDS = 10  # that a client may take to send one


def make_server(predictor, port=8000):
    """A server on this machine's loopback; one batch runs at a time, as it has all the threads."""
    running = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open
        timeout = SECONDS

        def do_POST(self):
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self.close_connection = True  # what follows is not read
                self.answer(413, [{"error": f"Expected a body of at most {MOST_BYTES} bytes and its Content-Length."}])
                return
            try:
                rows = [*read_rows(self.rfile.read(int(length)).splitlines(), "the request")]
                with running:
                    said = [*predictor(rows)]
            except ValueError as error:
                self.answer(400, [{"error": str(error)}])
            else:
                self.answer(200, said)

        def answer(self, status, rows):
            body = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/jsonl; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            """Say nothing of single requests."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(model, port="8000"):
    with make_server(load_predictor(model), int(port)) as server:
        print(f"http://127.0.0.1:{server.server_port}")
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
