"""Sweeps of runs that take no time, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "quick_train.py"
SMALL = [
    "task=demo", "model.config.hidden_size=16", "model.config.num_hidden_layers=2", "model.vocab_size=300",
    "model.config.num_attention_heads=2", "model.config.intermediate_size=24", "data.max_length=32",
    "data.max_train_samples=64", "data.max_search_samples=32", "finetune_epochs=2", "logger=none",
    "++trainer.accelerator=cpu",
]  # fmt: skip
GRID = ["pruning.tolerance=0,0.5", "seed=0,1"]


def start(directory, *overrides):
    """Start a sweep, in a group of processes of its own."""
    command = [sys.executable, str(SCRIPT), "-m", *SMALL, *overrides, f"hydra.sweep.dir={directory}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def sweep(directory, *overrides):
    """Run a sweep to its end, and return the exit status with what it said."""
    with start(directory, *overrides) as driver:
        said = driver.communicate()[0]
    return driver.returncode, said


def jobs(directory):
    """Return the directories of a sweep's jobs, in order."""
    beside = ("report", ".")  # the pictures of the page, and the dense models
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(beside))


def states(directory):
    """Return how each job says it stands."""
    files = {path.name: path / "state.json" for path in jobs(directory)}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def outcomes(directory):
    """Return what a sweep that was killed has to share with an undisturbed one, by job that is done."""
    found = {}
    for job in (path for path in jobs(directory) if (path / "results.json").exists()):
        results = json.loads((job / "results.json").read_text())
        del results["search"]["seconds"]
        del results["search"]["layer_tokens"]  # what had been kept is lost with a process
        names = ("plan.json", "finetuned/model.safetensors", "model/model.safetensors")
        found[job.name] = results, {name: (job / name).read_bytes() for name in names}
    return found


def processes_of(directory):
    """Return the processes that run a job in a directory, as the system lists them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            continue
        if any(word.startswith("hydra.run.dir=") and str(directory) in word for word in words):
            found.append(int(path.parent.name))
    return found
