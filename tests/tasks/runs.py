"""Whole runs of train.py on a model that takes no time."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import train
from axformer_lightning.tasks import stages

CONF = Path(train.__file__).parent / "conf"
SMALL = [
    "model=tiny", "model.config.hidden_size=16", "model.config.num_hidden_layers=1",
    "model.config.num_attention_heads=2", "model.config.intermediate_size=24", "data.max_length=48",
    "data.search_fraction=0.25", "data.batch_size=8", "finetune_epochs=1", "retrain_epochs=0", "pruning.majority=0",
    "pruning.tolerance=0.5", "logger=none", "++trainer.enable_progress_bar=false", "++trainer.accelerator=cpu",
]  # fmt: skip
QUIET = pytest.mark.filterwarnings("ignore:The dataloader", "ignore:The variance of predictions")


def run(directory, task, *overrides):
    """Run train.py in a new directory; without timing, which takes ten times as long as all the rest."""
    directory.mkdir()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[task, *SMALL, *overrides])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "latencies_ms", lambda models, length: {name: {"batch1": 1.0} for name in models})
        return train.train(cfg, directory)
