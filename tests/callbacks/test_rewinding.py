"""What is left of repairs once the weights are those at the start of fit again."""

import copy
import logging

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    HardAttentionCallback,
    Int8Callback,
    ShrinkCallback,
    apply_plan_,
)
from axformer_lightning.callbacks import base

CALLBACKS = {
    "pruning": lambda **options: [AccuracyDrivenPruningCallback(tolerance=0.02, repair=True, **options)],
    "budget": lambda **options: [ShrinkCallback(encoder_size_ratio=2.0, table_samples=16, tries=2, **options)],
    "with int8": lambda **options: [
        Int8Callback(embeddings=False),
        AccuracyDrivenPruningCallback(tolerance=0.02, repair=True, **options),
    ],
}


@pytest.fixture
def rewound(monkeypatch):
    """Keeps the weights right after each round."""
    found, run = [], base.run_round

    def watched(trainer, pl_module, transformer, **options):
        plan = run(trainer, pl_module, transformer, **options)
        found.append(
            {name: value.clone() for name, value in transformer.state_dict().items() if hasattr(value, "clone")}
        )
        return plan

    monkeypatch.setattr(base, "run_round", watched)
    return found


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", CALLBACKS.values(), ids=CALLBACKS)
def test_repairs_go_with_the_weights_and_the_plan_says_so(module, fit, search_loader, rewound, caplog, make):
    alone = copy.deepcopy(module.anything)
    callbacks, averaging = make(retrain="rewind", search_dataloader=search_loader), EMAWeightAveraging(decay=0.5)
    with caplog.at_level(logging.INFO, "axformer_lightning"):
        fit(module, [*callbacks, averaging], max_epochs=2)
    plan = module.anything.axformer_plan
    assert not plan.repaired
    assert not plan.removes_nothing
    assert all(callback.plan == plan for callback in callbacks)
    assert averaging._average_model.module.anything.axformer_plan == plan
    assert caplog.text.count("repairs went with the others") == 1
    caplog.clear()
    apply_plan_(alone, plan)
    assert caplog.text == ""  # nothing is missing
    for name, value in alone.named_parameters():
        assert torch.equal(value, rewound[-1][name]), name


@pytest.mark.slow
def test_weights_that_an_earlier_fit_repaired_stay_so(module, fit, search_loader):
    options = {"encoder_size_ratio": 1.5, "table_samples": 16, "tries": 2, "search_dataloader": search_loader}
    for retrain in ("continue", "rewind"):
        fit(module, [ShrinkCallback(**options, retrain=retrain)], max_epochs=2)
        assert module.anything.axformer_plan.repaired


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:The dirpath has changed")
@pytest.mark.parametrize(("rounds", "epoch"), [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_resumed_fit_goes_back_to_where_the_first_one_began(module, fit, search_loader, tmp_path, rounds, epoch):
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0

    def fitted(module, ckpt_path=None):
        options = {"tolerance": 0.02, "rounds": rounds, "search_dataloader": search_loader}
        callbacks = [AccuracyDrivenPruningCallback(first_epoch=1, retrain="rewind", **options), HardAttentionCallback()]
        saver = ModelCheckpoint(tmp_path / "saved", filename="{epoch}", save_top_k=-1)
        fit(module, [*callbacks, saver], 4, ckpt_path, enable_checkpointing=True, shuffle=False)
        return callbacks[0].plan

    again = copy.deepcopy(module)
    plan = fitted(module)
    saved = torch.load(tmp_path / "saved" / f"epoch={epoch}.ckpt", weights_only=True)
    assert ("axformer_starts" in saved) == (epoch < rounds + 1)
    assert fitted(again, tmp_path / "saved" / f"epoch={epoch}.ckpt") == plan
    assert not plan.removes_nothing
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), again.parameters(), strict=True))
    assert not list(tmp_path.rglob("axformer_start_*"))
