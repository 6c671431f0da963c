"""What a module and its callbacks keep of their own follows a cut."""

import copy

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback, load_from_checkpoint
from tests.callbacks.conftest import Classifier, loader
from tests.callbacks.test_checks import Trace

PARTS = {"neuron_groups": 4, "criterion": "loss", "majority": 0, "tolerance": 0.05, "inspection_factor": 100.0}


@pytest.fixture
def net(tiny):
    return tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train()


@pytest.fixture
def pruning(search_loader):
    return AccuracyDrivenPruningCallback(**PARTS, model="anything", search_dataloader=search_loader)


class KeepsCopy(Classifier):
    """Averages its weights in a copy of the model, as most tutorials have it."""

    def __init__(self, net):
        super().__init__(net)
        self.average = copy.deepcopy(net).requires_grad_(False)
        self.teacher = copy.deepcopy(net).requires_grad_(False)

    def on_train_batch_end(self, *args):
        for old, new in zip(self.average.parameters(), self.anything.parameters(), strict=True):
            old.data.lerp_(new.data, 0.5)


class KeepsDict(Classifier):
    """Averages its weights in a dict, and follows by itself."""

    def __init__(self, net):
        super().__init__(net)
        self.average = {name: value.detach().clone() for name, value in self.named_parameters()}

    def on_train_batch_end(self, *args):
        for name, value in self.named_parameters():
            self.average[name].lerp_(value.detach(), 0.5)

    def axformer_cut(self, edits):
        for name, edit in edits.items():
            value = edit.of(self.average.pop(name))
            if value is not None:
                self.average[name] = value


def shapes(parameters):
    return {name: value.shape for name, value in parameters}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("retrain", ["continue", "rewind"])
def test_a_copy_that_the_module_averages_into_is_cut_along(net, fit, search_loader, retrain):
    module = KeepsCopy(net)
    dense = shapes(module.teacher.named_parameters())
    callback = AccuracyDrivenPruningCallback(
        **PARTS, model="anything", search_dataloader=search_loader, retrain=retrain
    )
    trainer = fit(module, [callback], max_epochs=2)
    assert shapes(module.average.named_parameters()) == shapes(net.named_parameters()) != dense
    assert shapes(module.teacher.named_parameters()) == dense  # it has not changed, so it is no average
    held = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in module.parameters()}


class KeepsParts(Classifier):
    """Averages its weights in a copy of the model, and those of the base model in another."""

    def __init__(self, net):
        super().__init__(net)
        self.whole = copy.deepcopy(net).requires_grad_(False)
        self.part = copy.deepcopy(net.bert).requires_grad_(False)

    def on_train_batch_end(self, *args):
        for average, model in ((self.whole, self.anything), (self.part, self.anything.bert)):
            for old, new in zip(average.parameters(), model.parameters(), strict=True):
                old.data.lerp_(new.data, 0.5)


@pytest.mark.parametrize("retrain", ["continue", "rewind"])
def test_a_copy_of_the_base_model_ends_as_the_one_within_a_copy_of_the_model(net, fit, pruning, retrain):
    module = KeepsParts(net)
    pruning.options["retrain"] = retrain
    fit(module, [pruning], max_epochs=2)
    assert not pruning.plan.removes_nothing
    assert shapes(module.part.named_parameters()) == shapes(net.bert.named_parameters())
    for name, value in module.whole.bert.named_parameters():
        torch.testing.assert_close(module.part.get_parameter(name), value, rtol=0, atol=0)


class Thaws(Classifier):
    """Begins with a frozen encoder, which Lightning's callback puts into the optimizer later."""

    def __init__(self, net):
        super().__init__(net)
        self.backbone = net.bert

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], 1e-3)


def test_a_fit_with_a_backbone_that_was_unfrozen_and_cut_is_resumed(net, fit, search_loader, tmp_path):
    alike, path = copy.deepcopy(net), tmp_path / "cut.ckpt"

    def callbacks():
        pruning = AccuracyDrivenPruningCallback(**PARTS, first_epoch=1, search_dataloader=search_loader)
        return [BackboneFinetuning(unfreeze_backbone_at_epoch=1), pruning]

    first = fit(Thaws(net), callbacks(), max_epochs=3)
    first.save_checkpoint(path)
    again = Thaws(alike)
    trainer = fit(again, callbacks(), max_epochs=4, ckpt_path=path)
    held = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert shapes(again.named_parameters()) == shapes(Thaws(net).named_parameters())
    assert {id(parameter) for parameter in again.backbone.encoder.parameters()} <= held


def test_a_module_follows_by_itself(net, fit, pruning):
    module = KeepsDict(net)
    fit(module, [pruning], max_epochs=2)
    assert shapes(module.average.items()) == shapes(module.named_parameters())
    assert not pruning.plan.removes_nothing


def test_a_callback_follows_by_itself(net, fit, pruning):
    class Counts(L.Callback):
        best = 0.5

        def axformer_cut(self, edits):
            self.best, self.names = None, [edit.name for edit in edits.values()]

    counts, module = Counts(), Classifier(net)
    fit(module, [counts, pruning], max_epochs=2)
    assert counts.best is None
    assert all(f"anything.{name}" not in counts.names for name in counts.names)


def test_what_would_not_follow_is_refused_before_the_first_step(net, fit, pruning, state):
    module, trace = KeepsDict(net), Trace(state)
    module.axformer_cut = None
    del module.axformer_cut
    module.__class__ = type("Mute", (KeepsDict,), {"axformer_cut": property(lambda self: self.nothing)})
    with pytest.raises(ValueError, match=r"Mute\.average would not.*axformer_cut"):
        fit(module, [pruning, trace])
    assert "step" not in trace.reached


class NoBias(Classifier):
    def configure_optimizers(self):
        return torch.optim.AdamW([p for name, p in self.named_parameters() if "bias" not in name], 1e-3)


def test_what_no_optimizer_trains_is_cut_too(net, fit, pruning):
    fit(NoBias(net), [pruning], max_epochs=2)
    assert not pruning.plan.removes_nothing


class Pair(Classifier):
    """Two models; what they share is given from outside."""

    def __init__(self, net, other):
        super().__init__(net)
        self.other = other


def share_parameters(one, other):
    for mine, yours in zip(one.bert.encoder.layer, other.bert.encoder.layer, strict=True):
        for name, parameter in list(mine.named_parameters()):
            path, _, own = name.rpartition(".")
            setattr(yours.get_submodule(path), own, parameter)


def share_layers(one, other):
    other.bert.encoder.layer = one.bert.encoder.layer


def share_one_layer(one, other):
    other.bert.encoder.layer[0] = one.bert.encoder.layer[0]


@pytest.mark.parametrize("share", [share_parameters, share_layers, share_one_layer])
@pytest.mark.parametrize("model", ["anything", "other"])
def test_two_encoders_with_layers_in_common_are_refused_in_setup(tiny, net, fit, state, share, model):
    module, trace = Pair(net, tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train()), Trace(state)
    share(module.anything, module.other)
    with pytest.raises(ValueError, match=r"Expected weights of its own at .*but it shares them with .*Untie"):
        fit(module, [AccuracyDrivenPruningCallback(model=model), trace])
    assert trace.reached == []


def test_one_model_under_two_names_is_no_other(net, fit, search_loader):
    module = Classifier(net)
    module.encoder = net.bert
    module.first_layer = net.bert.encoder.layer[0]
    callback = AccuracyDrivenPruningCallback(**PARTS, search_dataloader=search_loader)
    fit(module, [callback], max_epochs=1)
    assert not callback.plan.removes_nothing


@pytest.mark.slow_but_first
@pytest.mark.parametrize("weights_only", [True, False])
def test_a_checkpoint_of_weights_alone_is_the_model_that_was_saved(tiny, net, fit, pruning, tmp_path, weights_only):
    module, saver = Classifier(net), ModelCheckpoint(tmp_path / "saved", save_weights_only=weights_only)
    hard = HardAttentionCallback(k=2, model="anything", criterion="loss", tolerance=2.0)
    fit(module, [hard, pruning, saver], max_epochs=2, enable_checkpointing=True)
    loaded = load_from_checkpoint(
        Classifier,
        saver.best_model_path,
        transformer=copy.deepcopy(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2)),
    )
    batch = next(iter(loader(16, 5)))
    assert not net.axformer_plan.removes_nothing
    assert torch.equal(loaded.eval()(**batch).logits, module.eval()(**batch).logits)
    plain = Classifier(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2))
    with pytest.raises(RuntimeError, match="axformer-lightning: load it with"):
        L.Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path).test(
            plain, loader(16, 5), ckpt_path=saver.best_model_path, weights_only=True
        )
