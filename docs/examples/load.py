"""Requests per second of services, in turns: `python docs/examples/load.py PAIRS.tsv A.onnx B.onnx ...`

Starts `serve.py` for each model on loopback, and asks one after another for a few seconds, over and over: so that all
of them meet the same other work on the machine. PAIRS.tsv is a GLUE file with two texts in its last two columns.
"""

import http.client
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLIENTS, SECONDS, ROUNDS = 2, 4.0, 5
SERVE = Path(__file__).with_name("serve.py")


def start(model):
    command = [sys.executable, "-W", "ignore", SERVE, model, "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def ask(port, bodies):
    connection, times, until = http.client.HTTPConnection("127.0.0.1", port), [], time.perf_counter() + SECONDS
    for i in range(1_000_000):
        before = time.perf_counter()
        if before > until:
            break
        connection.request("POST", "/", bodies[i % len(bodies)])
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        times.append(time.perf_counter() - before)
    return times


def main(pairs, *models):
    lines = Path(pairs).read_text(encoding="utf-8-sig").splitlines()[1:257]
    bodies = [json.dumps([dict(zip(("text", "text_pair"), line.split("\t")[-2:], strict=True))]) for line in lines]
    servers = {model: start(model) for model in models}
    rates, times = ({model: [] for model in models} for _ in range(2))
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            for _ in range(ROUNDS):
                for model, (_, port) in servers.items():
                    taken = [t for one in clients.map(lambda _: ask(port, bodies), range(CLIENTS)) for t in one]  # noqa: B023
                    rates[model].append(len(taken) / SECONDS)
                    times[model] += taken
    finally:
        for process, _ in servers.values():
            process.terminate()
    for model in models:
        low, middle, high = min(rates[model]), statistics.median(rates[model]), max(rates[model])
        median, tail = (1000 * statistics.quantiles(times[model], n=100)[i] for i in (49, 94))
        print(f"{model}: {middle:.1f} requests/s ({low:.1f} to {high:.1f}), median {median:.1f} ms, 95 % {tail:.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
