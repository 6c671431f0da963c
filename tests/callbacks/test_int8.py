"""Going to int8 in the middle of a fit, and training on with its rounding."""

import copy

import lightning as L
import pytest
import torch

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    Int8Callback,
    ShrinkCallback,
    load_from_checkpoint,
    quantize,
)
from axformer_lightning.int8 import Int8Embedding, Int8Linear, int8_modules
from tests.callbacks.conftest import Classifier


class Watch(L.Callback):
    """Keeps copies of the module before each validation."""

    def __init__(self):
        self.before = []

    def on_validation_start(self, trainer, pl_module):
        self.before.append(copy.deepcopy(pl_module.anything))


def in_int8(model):
    return {name for name, module in model.named_modules() if isinstance(module, Int8Linear | Int8Embedding)}


def test_in_a_fit_it_leaves_what_quantize_leaves(module, fit, search_loader):
    watch, callback = Watch(), Int8Callback(tolerance=9.0, search_dataloader=search_loader)
    fit(module, [watch, callback], max_epochs=1, num_sanity_val_steps=0)
    alone = quantize(watch.before[-1], search_loader, tolerance=9.0, criterion="loss_and_metric")
    assert callback.plan == alone.axformer_plan == module.anything.axformer_plan
    assert in_int8(module.anything) == in_int8(alone) == set(int8_modules(alone, alone.axformer_plan.layers))
    assert len(in_int8(alone)) == 1 + 2 * 6
    for name, value in watch.before[-1].named_parameters():
        assert torch.equal(value, module.anything.get_parameter(name)), name  # weights are rounded in calls alone


def test_training_goes_on_with_rounding(module, fit, search_loader):
    watch = Watch()
    trainer = fit(module, [Int8Callback(tolerance=9.0, search_dataloader=search_loader), watch], num_sanity_val_steps=0)
    assert in_int8(watch.before[-1]) == in_int8(module.anything) != set()
    held = {parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == set(module.parameters())
    for name in in_int8(module.anything):
        now, before = (model.get_submodule(name).weight for model in (module.anything, watch.before[1]))
        assert not torch.equal(now, before), name


def test_a_checkpoint_brings_int8_along(module, fit, search_loader, tmp_path):
    trainer = fit(module, [Int8Callback(tolerance=9.0, search_dataloader=search_loader)], max_epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    dense = copy.deepcopy(module.anything)
    for part in dense.modules():  # as made anew by the user
        part.__class__ = {Int8Linear: torch.nn.Linear, Int8Embedding: torch.nn.Embedding}.get(type(part), type(part))
    dense.axformer_plan = None
    loaded = load_from_checkpoint(Classifier, tmp_path / "last.ckpt", transformer=dense)
    assert in_int8(loaded.anything) == in_int8(module.anything) != set()


def test_pruning_after_int8_is_refused_before_training(module, fit, search_loader):
    int8 = Int8Callback(tolerance=9.0, search_dataloader=search_loader)
    fit(module, [int8], max_epochs=1)
    with pytest.raises(ValueError, match="cut before quantizing"):
        fit(module, [AccuracyDrivenPruningCallback(search_dataloader=search_loader)], max_epochs=1)


def test_callbacks_of_one_epoch_share_a_round_in_which_int8_goes_last_and_has_a_tolerance_of_its_own(
    module, fit, search_loader
):
    pruning = AccuracyDrivenPruningCallback(neuron_groups=4, tolerance=0.0, search_dataloader=search_loader)
    fit(module, [Int8Callback(tolerance=9.0), pruning], max_epochs=1)
    decisions = pruning.plan.decisions
    last = [decision for decision in decisions if decision.kind.startswith("int8")]
    assert decisions[-len(last) :] == tuple(last)
    assert all(decision.accepted for decision in last)
    assert not all(decision.accepted for decision in decisions)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("first_epoch", [0, 1], ids=["the same epoch", "the next epoch"])
@pytest.mark.parametrize(
    "cutting",
    [
        lambda loader: AccuracyDrivenPruningCallback(repair=True, tolerance=0.0, search_dataloader=loader),
        lambda loader: ShrinkCallback(encoder_size_ratio=2.0, table_samples=16, tries=2, search_dataloader=loader),
    ],
    ids=["repair", "budget"],
)
def test_what_is_repaired_goes_to_int_8_after_it(module, fit, search_loader, cutting, first_epoch):
    int8, cuts = Int8Callback(tolerance=9.0, first_epoch=first_epoch), cutting(search_loader)
    trainer = fit(module, [int8, cuts], max_epochs=2)
    plan = int8.plan
    assert plan == cuts.plan == module.anything.axformer_plan
    assert plan.repaired
    assert in_int8(module.anything) == set(int8_modules(module.anything, plan.layers)) != set()
    kinds = [decision.kind.startswith("int8") for decision in plan.decisions]
    assert kinds == sorted(kinds)
    assert (int8.rounds_done, cuts.rounds_done) == (1, 1)
    held = {parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == set(module.parameters())


@pytest.mark.slow
def test_a_second_fit_after_all_rounds_trains_on_in_int8(module, fit, search_loader):
    callbacks = [
        AccuracyDrivenPruningCallback(tolerance=0.0, search_dataloader=search_loader),
        Int8Callback(tolerance=9.0),
    ]
    fit(module, callbacks, max_epochs=1)
    before, plan = copy.deepcopy(module.state_dict()), module.anything.axformer_plan
    fit(module, callbacks, max_epochs=1)
    assert module.anything.axformer_plan == plan
    assert in_int8(module.anything) == set(int8_modules(module.anything, plan.layers)) != set()
    name = "anything.classifier.weight"
    assert not torch.equal(module.state_dict()[name], before[name])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("cutting", "int8", "epochs"),
    [
        (lambda: AccuracyDrivenPruningCallback(rounds=2), {"rounds": 2}, (1, 0)),
        (lambda: AccuracyDrivenPruningCallback(first_epoch=3), {"first_epoch": 2}, (3, 2)),
        (lambda: ShrinkCallback(encoder_size_ratio=2.0, rounds=2, every_n_epochs=2), {"first_epoch": 1}, (2, 1)),
    ],
)
def test_rounds_that_would_cut_after_one_of_int8_are_refused_in_setup(module, fit, cutting, int8, epochs, reverse):
    callbacks = [cutting(), Int8Callback(**int8)]
    words = rf"{type(callbacks[0]).__name__} in epoch {epochs[0]} after one of int8 in epoch {epochs[1]}.*first_epoch"
    with pytest.raises(ValueError, match=words):
        fit(module, callbacks[:: -1 if reverse else 1], max_epochs=4)
    assert not hasattr(module.anything, "axformer_plan")


@pytest.mark.slow
def test_rounds_that_end_before_int8_or_with_it_are_not_refused(module, fit, search_loader):
    pruning = AccuracyDrivenPruningCallback(rounds=2, tolerance=0.0, search_dataloader=search_loader)
    int8 = Int8Callback(tolerance=9.0, first_epoch=1)
    fit(module, [int8, pruning], max_epochs=2)
    assert (pruning.rounds_done, int8.rounds_done) == (2, 1)
    assert in_int8(module.anything) != set()
