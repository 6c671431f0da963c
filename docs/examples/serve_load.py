"""Requests per second of several models behind `serve.py`, in turns, over loopback.

`python docs/examples/serve_load.py ROWS.jsonl MODEL...`; each request is one row of the file.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from threading import Thread

import torch
from serve import make_server

from axformer_lightning.predict import load_predictor

CLIENTS, REQUESTS, ROUNDS = 4, 64, 5


def ask(port, bodies):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        connection.request("POST", "/", body)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        json.loads(response.read())
    connection.close()


def per_second(port, bodies):
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(CLIENTS) as clients:
        for done in [clients.submit(ask, port, bodies[i::CLIENTS]) for i in range(CLIENTS)]:
            done.result()
    return len(bodies) / (time.perf_counter() - wall), len(bodies) / (time.process_time() - cpu)


def main(file, *models):
    torch.set_num_threads(1)
    bodies = [line.encode() for line in Path(file).read_text(encoding="utf-8").splitlines()[:REQUESTS]]
    servers = {model: make_server(load_predictor(model, threads=1), port=0) for model in models}
    for server in servers.values():
        Thread(target=server.serve_forever, daemon=True).start()
        ask(server.server_port, bodies[:4])
    rates = {model: [] for model in models}
    for _ in range(ROUNDS):  # in turns: what else the machine does meets all of them
        for model, server in servers.items():
            rates[model].append(per_second(server.server_port, bodies))
    print("| model | requests per second | per CPU second |\n|---|---|---|")
    for model, found in rates.items():
        shown = (f"{median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in zip(*found, strict=True))
        print(f"| {model} | {' | '.join(shown)} |")
    for server in servers.values():
        server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
