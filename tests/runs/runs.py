"""Whole runs of train.py on a model that takes no time."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import train
from axformer_lightning.runs import reporting

ROOT = Path(train.__file__).parent
CONF = ROOT / "conf"
DYING = Path(__file__).parent / "dying.py"
SMALL = [
    "model=tiny", "model.config.hidden_size=16", "model.config.num_hidden_layers=1",
    "model.config.num_attention_heads=2", "model.config.intermediate_size=24", "data.max_length=48",
    "data.search_fraction=0.25", "data.batch_size=8", "finetune_epochs=1", "retrain_epochs=0", "pruning.majority=0",
    "pruning.tolerance=0.5", "logger=none", "++trainer.enable_progress_bar=false", "++trainer.accelerator=cpu",
]  # fmt: skip
QUIET = pytest.mark.filterwarnings("ignore:The dataloader", "ignore:The variance of predictions")


def no_latencies(models, length):
    """What takes the place of measuring."""
    return {name: {"batch1": 1.0} for name in models}


def configuration(*overrides):
    """Return the configuration that overrides alone describe."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def run(directory, task, *overrides):
    """Run train.py in a new directory; without timing, which takes ten times as long as all the rest."""
    directory.mkdir()
    cfg = configuration(task, *SMALL, *overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "latencies_ms", no_latencies)
        return train.train(cfg, directory)


@contextmanager
def process(script, *arguments):
    """A process of its own, killed at the end if it has not ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as made:
        try:
            yield made
        finally:
            made.kill()


def finish(made):
    """Wait for a process to end well, and return what it said."""
    said = made.communicate()[0].decode()
    assert made.returncode == 0, said
    return said


def outcome(directory):
    """Return everything that a resumed run has to share with an uninterrupted one."""
    results = json.loads((directory / "results.json").read_text())
    del results["search"]["seconds"]
    del results["search"]["layer_tokens"]  # what had been kept is lost with a process
    for side in ("baseline", "axformer"):
        del results[side]["latency_ms"]
    names = ("plan.json", "finetuned/model.safetensors", "model/model.safetensors", "model/config.json")
    names += ("finetuned/dev_predictions.npz", "model/dev_predictions.npz")
    return results, {name: (directory / name).read_bytes() for name in names}


def times(directory):
    """Return when each file and folder was last changed."""
    return {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}
