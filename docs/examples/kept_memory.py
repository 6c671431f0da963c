"""Time steps of training with freed memory given back, as is the C library's custom, and kept, as train.py does.

`python docs/examples/kept_memory.py 16x384 32x48`: batch size x tokens. The two take turns, each in a process of its
own, and the times are seconds of the processor, one thread.
"""

import statistics
import subprocess
import sys
import time

WAYS = ("given back", "kept")
ROUNDS, STEPS = 3, 4


def seconds_of_a_step(shape: str, way: str) -> float:
    """Train a random model of MiniLM's sizes in bfloat16 in this process."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from axformer_lightning.runs.memory import keep_freed_memory

    if way == "kept" and not keep_freed_memory():
        raise SystemExit("Expected the GNU C library without settings of its own in the environment.")
    torch.set_num_threads(1)
    size, length = map(int, shape.split("x"))
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    model = BertForSequenceClassification(BertConfig(**sizes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    words, labels = torch.randint(0, 30_000, (size, length)), torch.randint(0, 2, (size,))
    for step in range(STEPS + 1):
        if step == 1:  # the first one warms up
            began = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(words, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - began) / STEPS


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-this-process"]:
        print(seconds_of_a_step(*sys.argv[2:]))
        raise SystemExit
    for shape in sys.argv[1:] or ["16x384", "32x48"]:
        found = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, __file__, "--in-this-process", shape, way]
                ran = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(float(ran.stdout.split()[-1]))
        back, kept = (statistics.median(found[way]) for way in WAYS)
        print(
            f"{shape}: {back:.3f} s a step with memory given back, {kept:.3f} with it kept, {kept / back:.2f} times",
            flush=True,
        )
