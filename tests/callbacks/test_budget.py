"""Going down to a budget in the middle of a fit."""

import copy
import logging

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, MultilabelF1Score

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    HardAttentionCallback,
    Int8Callback,
    ShrinkCallback,
    apply_plan_,
    shrink,
)
from axformer_lightning.anatomy import LayerPlan, layers_left
from axformer_lightning.budgets import Effort
from axformer_lightning.costs import count_encoder_parameters
from axformer_lightning.plan import Plan, plan_of
from axformer_lightning.rounds import Cut
from axformer_lightning.search import SearchCounts

QUICK = {"table_samples": 16, "tries": 2}


class Watch(L.Callback):
    """Keeps copies of the module before each validation, and of the state of the first step after a cut."""

    def __init__(self):
        self.before, self.after = [], None

    def on_validation_start(self, trainer, pl_module):
        self.before.append(copy.deepcopy(pl_module.anything))

    def on_train_end(self, trainer, pl_module):
        self.after = copy.deepcopy(pl_module.anything)


@pytest.mark.always
def test_in_a_fit_it_leaves_what_shrink_leaves(module, fit, search_loader):
    watch = Watch()
    callback = ShrinkCallback(encoder_size_ratio=2.0, first_epoch=1, search_dataloader=search_loader, **QUICK)
    fit(module, [watch, callback], max_epochs=2, num_sanity_val_steps=0)
    alone = shrink(watch.before[-1], search_loader, encoder_size_ratio=2.0, effort=Effort(**QUICK))
    assert callback.plan == alone.axformer_plan == module.anything.axformer_plan
    assert count_encoder_parameters(watch.before[-1]) >= 2 * count_encoder_parameters(module.anything)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, module.anything.state_dict()[name]), name


@pytest.mark.slow
def test_it_needs_no_labels_where_shrink_needs_none(module, fit, search_loader):
    unlabelled = [{name: value for name, value in batch.items() if name != "labels"} for batch in search_loader]
    watch, callback = Watch(), ShrinkCallback(encoder_size_ratio=2.0, search_dataloader=unlabelled, **QUICK)
    with pytest.raises(ValueError, match="search set with labels"):
        fit(copy.deepcopy(module), [callback, HardAttentionCallback(2)])
    fit(module, [watch, callback], max_epochs=1, num_sanity_val_steps=0)
    alone = shrink(watch.before[-1], unlabelled, encoder_size_ratio=2.0, effort=Effort(**QUICK))
    assert callback.plan == alone.axformer_plan == module.anything.axformer_plan


@pytest.mark.slow
def test_training_goes_on_with_all_that_is_left(module, fit, search_loader):
    watch = Watch()
    callback = ShrinkCallback(encoder_size_ratio=2.0, search_dataloader=search_loader, **QUICK)
    trainer = fit(module, [callback, watch], num_sanity_val_steps=0)
    cut = watch.before[1]
    assert layers_left(cut) == layers_left(module.anything)
    held = {parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == set(module.parameters())
    before = dict(cut.named_parameters())
    assert not any(torch.equal(value, before[name]) for name, value in module.anything.named_parameters())
    state = trainer.optimizers[0].state
    assert all(state[parameter]["exp_avg"].shape == parameter.shape for parameter in held)


def test_an_average_is_repaired_like_the_module(module, fit, search_loader):
    averaging = EMAWeightAveraging(decay=0.5)

    class Compare(L.Callback):
        seen = None

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            average = averaging._average_model.module.anything
            if Compare.seen is None and layers_left(average) != before:
                Compare.seen = copy.deepcopy(average), copy.deepcopy(pl_module.anything)

    before = layers_left(module.anything)
    callback = ShrinkCallback(encoder_size_ratio=2.0, search_dataloader=search_loader, **QUICK)
    fit(module, [averaging, Compare(), callback], max_epochs=2)
    average, trained = Compare.seen
    assert layers_left(average) == layers_left(trained)
    apart = [
        (ours - theirs).abs().max().item()
        for ours, theirs in zip(average.parameters(), trained.parameters(), strict=True)
    ]
    assert max(apart) < 0.05  # an out-projection that was cut and not repaired is further away


def test_a_search_comes_first_and_a_rewind_last(module, fit, search_loader):
    start = {name: value.detach().clone() for name, value in module.named_parameters()}
    watch = Watch()
    search = {"majority": 0, "tolerance": 0.5, "neuron_groups": 4, "search_dataloader": search_loader}
    callbacks = [
        watch,
        ShrinkCallback(encoder_size_ratio=2.0, retrain="rewind", **QUICK),
        AccuracyDrivenPruningCallback(retrain="rewind", **search),
    ]
    trainer = fit(module, callbacks, max_epochs=2, limit_train_batches=1, num_sanity_val_steps=0)
    assert trainer.current_epoch == 2
    plan = module.anything.axformer_plan
    assert plan.decisions
    assert callbacks[1].plan == callbacks[2].plan == plan
    for name, value in module.named_parameters():
        if value.shape == start[name].shape:
            assert (value - start[name]).abs().max() < 0.01


@pytest.mark.slow
def test_a_resumed_fit_is_cut_as_the_checkpoint_says(module, fit, search_loader, tmp_path):
    def callback():
        return ShrinkCallback(encoder_size_ratio=2.0, search_dataloader=search_loader, **QUICK)

    other = copy.deepcopy(module)
    first = fit(module, [callback()], max_epochs=3)
    first.save_checkpoint(tmp_path / "cut.ckpt")
    resumed = callback()
    fit(other, [resumed], max_epochs=3, ckpt_path=tmp_path / "cut.ckpt")
    assert resumed.rounds_done == 1
    assert layers_left(other.anything) == layers_left(module.anything)
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_a_target_that_cannot_be_is_refused_before_training():
    with pytest.raises(ValueError, match=r"`encoder_size_ratio` to be a number above 1, got 0\.5"):
        ShrinkCallback(encoder_size_ratio=0.5)
    with pytest.raises(TypeError, match=r"ShrinkCallback\(\) got an unexpected keyword argument 'encoder_ratio'"):
        ShrinkCallback(encoder_ratio=2.0)


def test_where_a_floor_ends_it_early_the_log_says_what_became_of_the_model(
    module, fit, search_loader, caplog, monkeypatch
):
    def ends_at_once(pl_module, transformer, *_, **options):
        return Cut(plan_of(transformer), (), SearchCounts(candidates=0, accepted=0))

    monkeypatch.setattr("axformer_lightning.callbacks.round.shrink_to_", ends_at_once)
    with caplog.at_level(logging.INFO, "axformer_lightning"):
        fit(module, [ShrinkCallback(encoder_size_ratio=2.0, search_dataloader=search_loader)], max_epochs=1)
    assert "AxFormer: 19906 parameters become 19906 (+0.0%)." in caplog.text


class Reached(L.Callback):
    """Refuses that a fit comes to its first step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        raise AssertionError("trains")


@pytest.mark.slow_but_first
@pytest.mark.parametrize("late", [False, True], ids=["setup", "after the module's own setup"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside pruning"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder_size_ratio": 5000.0}, "Expected `encoder_size_ratio` of at most"),
        ({"file_size_ratio": 50.0, "speedup": 2.0}, "Expected `file_size_ratio` of at most"),
        ({"macs_ratio": 1e6, "tokens": 8}, "Expected `macs_ratio` of at most"),
        ({"latency_ms": 1.0, "latency_table": "nowhere.json"}, "nowhere.json"),
        ({"metric_floor": 0.1, "metric": MultilabelF1Score(3)}, "got MultilabelF1Score: "),
        ({"metric_floor": 0.1, "metric": BinaryAUROC(), "speedup": 2.0}, "got BinaryAUROC: it goes by scores"),
    ],
    ids=str,
)
def test_what_is_out_of_reach_is_refused_before_the_first_step(
    module, fit, search_loader, options, words, beside, late
):
    if late:
        module.__class__ = type("Late", (type(module),), {"setup": lambda self, stage: None})
    shrinking = ShrinkCallback(search_dataloader=search_loader, **options)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        fit(module, [AccuracyDrivenPruningCallback(first_epoch=1), shrinking, Reached()][not beside :])


def test_int8_beside_pruning_that_weights_are_too_narrow_for_is_refused_before_the_first_step(
    module, fit, search_loader
):
    callbacks = [AccuracyDrivenPruningCallback(search_dataloader=search_loader), Int8Callback(), Reached()]
    with pytest.raises(ValueError, match="Expected weights in float32 to round to int8"):
        fit(module, callbacks, precision="bf16-true")


def test_a_time_that_nobody_has_measured_is_not_measured_before_training(module, fit, search_loader, monkeypatch):
    def measured(*_, **options):
        raise AssertionError("measures")

    monkeypatch.setattr("axformer_lightning.budgets.targets.measure_latency", measured)
    with pytest.raises(AssertionError, match="trains"):
        fit(module, [ShrinkCallback(speedup=2.0, search_dataloader=search_loader), Reached()])


@pytest.mark.parametrize("late", [False, True], ids=["setup", "after the module's own setup"])
def test_times_of_a_model_that_is_cut_already_are_refused_before_the_first_step(module, fit, search_loader, late):
    plan = Plan("bert", 2, 4, 48, (LayerPlan("removed"), LayerPlan()))
    apply_plan_(module.anything, plan)
    if late:
        module.__class__ = type("Late", (type(module),), {"setup": lambda self, stage: None})
    with pytest.raises(ValueError, match="`speedup` for a model that is cut already, got none"):
        fit(module, [ShrinkCallback(speedup=2.0, search_dataloader=search_loader), Reached()])


@pytest.mark.parametrize(
    ("options", "others", "words"),
    [
        ({"rounds": 2}, [], "ShrinkCallback in epoch 0 before one of ShrinkCallback with `speedup` in epoch 1"),
        ({}, [AccuracyDrivenPruningCallback], "AccuracyDrivenPruningCallback in epoch 0 before one of ShrinkCallback"),
        ({"first_epoch": 1}, [HardAttentionCallback], "HardAttentionCallback in epoch 0 before one of ShrinkCallback"),
    ],
    ids=["two rounds", "beside pruning", "after hard attention"],
)
def test_times_that_would_be_measured_after_a_cut_are_refused_before_the_first_step(
    module, fit, search_loader, options, others, words
):
    shrinking = ShrinkCallback(speedup=2.0, search_dataloader=search_loader, **options)
    with pytest.raises(ValueError, match=words):
        fit(module, [shrinking, *(other() for other in others), Reached()])


def test_times_that_are_measured_before_any_cut_are_taken(module, fit, search_loader):
    shrinking = ShrinkCallback(speedup=2.0, search_dataloader=search_loader)
    later = [AccuracyDrivenPruningCallback(first_epoch=1), Int8Callback(first_epoch=1)]
    with pytest.raises(AssertionError, match="trains"):
        fit(module, [shrinking, *later, Reached()])


def test_a_floor_with_several_processes_is_refused_before_the_first_step(module, fit, search_loader, monkeypatch):
    monkeypatch.setattr(L.Trainer, "world_size", property(lambda trainer: 2))
    options = {"metric_floor": 0.1, "metric": BinaryAccuracy(), "search_dataloader": search_loader}
    with pytest.raises(ValueError, match="Expected one process with `metric_floor`, got 2") as refused:
        fit(module, [ShrinkCallback(**options), Reached()])
    assert "setup" in {entry.name for entry in refused.traceback}
