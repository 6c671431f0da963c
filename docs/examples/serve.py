"""A model as a service: `python docs/examples/serve.py model.onnx`, then

    curl -d '["It rains.", {"text": "It rains.", "text_pair": "Rain is falling."}]' localhost:8000

A request is a JSON list of samples; the answer is a list of what the model says of each.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from axformer_lightning.exporting.texts import Predictor, open_model

LARGEST = 1_000_000  # bytes of a request


def handler(predictor):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def do_POST(self):
            told = self.headers.get("Content-Length", "0")
            if not told.isdecimal() or int(told) > LARGEST:
                self.close_connection = True
                self.answer(413, {"error": f"Expected at most {LARGEST} bytes, got {told}."})
                return
            try:
                samples = json.loads(self.rfile.read(int(told)).decode())
                if not isinstance(samples, list):
                    raise ValueError("Expected a list of samples.")
                samples = [{"text": sample} if isinstance(sample, str) else dict(sample) for sample in samples]
                self.answer(200, list(predictor(samples)))
            except (ValueError, TypeError) as error:
                self.answer(400, {"error": str(error)})

        def answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler


def main(model, port=8000):
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(port)), handler(Predictor(open_model(model, threads=1), truncate=True))
    )
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
