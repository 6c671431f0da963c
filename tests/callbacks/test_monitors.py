"""What watches a metric compares anew after a cut."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau, SequentialLR

from axformer_lightning.callbacks.monitors import restart_monitors


@pytest.mark.parametrize(("mode", "any_value"), [("min", 1e30), ("max", -1e30)])
def test_any_value_is_better_than_those_of_the_dense_model(mode, any_value):
    stopping, saver = EarlyStopping("it", mode=mode), ModelCheckpoint(monitor="it", mode=mode)
    stopping.best_score = torch.tensor(0.5)
    saver.best_k_models, saver.kth_best_model_path = {"dense.ckpt": torch.tensor(0.5)}, "dense.ckpt"
    stopping.wait_count = 2
    restart_monitors(SimpleNamespace(callbacks=[stopping, saver], lr_scheduler_configs=[]))
    assert stopping.wait_count == 0
    assert stopping.monitor_op(torch.tensor(any_value), stopping.best_score)
    assert saver.check_monitor_top_k(None, torch.tensor(any_value))


class OwnPlateau(ReduceLROnPlateau):
    """A user's own."""


@pytest.mark.parametrize(
    "wrap", [lambda optimizer, plateau: plateau, lambda optimizer, plateau: sequence(optimizer, plateau)]
)
@pytest.mark.parametrize("kind", [ReduceLROnPlateau, OwnPlateau])
def test_a_plateau_scheduler_forgets_the_dense_models_best(kind, wrap):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    plateau = kind(optimizer, patience=1, cooldown=2)
    for value in (0.5, 0.6, 0.6):
        plateau.step(value)
    config = SimpleNamespace(scheduler=wrap(optimizer, plateau))
    restart_monitors(SimpleNamespace(callbacks=[], lr_scheduler_configs=[config]))
    reduced = optimizer.param_groups[0]["lr"]
    for value in (1.3, 1.2, 1.1, 1.0):
        plateau.step(value)
    assert (plateau.best, optimizer.param_groups[0]["lr"]) == (1.0, reduced)


def sequence(optimizer, plateau):
    """A sequence that comes to a plateau scheduler."""
    found = SequentialLR(optimizer, [ConstantLR(optimizer), ConstantLR(optimizer)], [1])
    found._schedulers[1] = plateau
    return found
