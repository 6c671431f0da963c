"""What watches a metric compares anew after a cut."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from axformer_lightning.callbacks.monitors import restart_monitors


@pytest.mark.parametrize(("mode", "any_value"), [("min", 1e30), ("max", -1e30)])
def test_any_value_is_better_than_those_of_the_dense_model(mode, any_value):
    stopping, saver = EarlyStopping("it", mode=mode), ModelCheckpoint(monitor="it", mode=mode)
    stopping.best_score = torch.tensor(0.5)
    saver.best_k_models, saver.kth_best_model_path = {"dense.ckpt": torch.tensor(0.5)}, "dense.ckpt"
    restart_monitors(SimpleNamespace(callbacks=[stopping, saver]))
    assert stopping.monitor_op(torch.tensor(any_value), stopping.best_score)
    assert saver.check_monitor_top_k(None, torch.tensor(any_value))
