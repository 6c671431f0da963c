"""Directories of runs as train.py leaves them, without a model."""

import json

import numpy as np

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.evidence import Predictions
from axformer_lightning.plan import Decision, Plan

NUM_SAMPLES = 200
PLAN = Plan(
    "bert", 2, 4, 64,
    (LayerPlan(heads_removed=(1,), neurons_removed=((0, 32),)), LayerPlan(attention="removed")),
    (
        Decision(1, "attention", 1, None, 0.41, 0.6, 0.42, True, 100),
        Decision(1, "head", 0, 2, None, None, 0.41, False, 40),
        Decision(1, "head", 0, 1, 0.40, 0.6, 0.41, True, 100),
    ),
)  # fmt: skip
DAMAGE = [
    [
        {"layer": layer, "block": block, "widths": [4, 2, None], "damage": [0.0, 0.01, 0.5]}
        for layer in range(2)
        for block in ("attention", "feed_forward")
    ]
]


def predictions(share_right, seed):
    """Two classes, of which a share is right."""
    random = np.random.default_rng(seed)
    labels = np.tile([0, 1], NUM_SAMPLES // 2)
    right = random.random(NUM_SAMPLES) < share_right
    logits = np.eye(2)[np.where(right, labels, 1 - labels)] * random.uniform(0.5, 3, (NUM_SAMPLES, 1))
    return Predictions({"labels": labels, "logits": logits})


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_unfinished(
    directory, *overrides, task="mrpc", model="some/model", seed=0, retrain_dense=False, finished=False
):
    """Write what a run leaves that was killed; overrides without a group are those of pruning."""
    config = {
        "task": {"name": task, "headline": "accuracy"}, "model": {"pretrained": model}, "seed": seed,
        "finetune_epochs": 3, "retrain_dense": retrain_dense, "pruning": {}, "trainer": {"devices": 1},
    }  # fmt: skip
    for words in overrides:
        name, value = words.split("=")
        group, _, option = name.rpartition(".")
        config[group or "pruning"][option] = value
    write_json(directory / ".resume" / "run.json", {"finished": finished, "configuration": config})
    (directory / ".hydra").mkdir()
    listed = [f"task={task}", f"seed={seed}", "pruning.shared=1", *overrides]
    (directory / ".hydra" / "overrides.yaml").write_text("\n".join(f"- {words}" for words in listed), encoding="utf-8")


def write_run(directory, *overrides, dense=0.8, cut=0.8, seed=0, **options):
    """Write a finished run; ``dense`` and ``cut`` are about the shares of dev samples that are right."""
    write_unfinished(directory, *overrides, seed=seed, finished=True, **options)
    sides = {}
    for side, folder, share in (("baseline", "finetuned", dense), ("axformer", "model", cut)):
        (directory / folder).mkdir()
        said = predictions(share, [seed, len(side)])
        said.save(directory / folder)
        small = 1 if side == "baseline" else 2
        sides[side] = {
            "metrics": {"accuracy": float(said.value("accuracy"))}, "parameters": 3000 // small,
            "encoder_parameters": 2000 // small, "size_bytes": 12000 // small, "macs_per_sample": 1000 // small,
            "latency_ms": {"batch1": 2.0 / small, "batch32": 20.0 / small},
        }  # fmt: skip
    search = {"candidates": 3, "accepted": 2, "seconds": 4.0, "layer_tokens": 10.0, "exhaustive_layer_tokens": 40.0}
    named = {"task": options.get("task", "mrpc"), "model": options.get("model", "some/model"), "seed": seed}
    results = {**named, **sides, "search": search}
    write_json(directory / "results.json", results)
    write_json(directory / "damage.json", DAMAGE)
    seconds = {"finetune": 9.0, "search1": 4.0, "retrain1": 3.0}
    environment = {"command": "python train.py -m seed=0,1,2", "processor": "a processor", "seconds": seconds}
    write_json(directory / "environment.json", {**environment, "cores": 2, "threads": 1, "python": "3.11"})
    PLAN.save(directory / "plan.json")
