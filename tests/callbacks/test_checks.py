"""What is refused before training, and what is not."""

import copy

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelPruning
from torch import nn
from torch.nn.utils import prune
from torchmetrics import MeanMetric, MeanSquaredError
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, MulticlassAUROC

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0}


class Trace(L.Callback):
    """Notes how far a fit came, and what the module was like then."""

    def __init__(self, state):
        self.reached, self.state, self.states = [], state, []

    def on_fit_start(self, trainer, pl_module):
        self.reached.append("fit")
        self.states.append(self.state(pl_module.anything))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if "step" not in self.reached:
            self.reached.append("step")


@pytest.fixture
def trace(state):
    return Trace(state)


def changed(module, **members):
    """Give a module another class with these members."""
    module.__class__ = type("Changed", (type(module),), members)
    return module


def mean_loss_only(self, **batch):
    """A forward for training alone."""
    labels = batch.get("labels", torch.zeros(len(batch["input_ids"]), dtype=torch.long))
    return nn.functional.cross_entropy(self.anything(input_ids=batch["input_ids"]).logits, labels)


def own_loss(self, batch, batch_idx):
    """A step of a module whose forward is a mean loss."""
    return self(**batch)


MEAN_LOSS_ONLY = {"forward": mean_loss_only, "training_step": own_loss, "validation_step": own_loss}


def test_what_cannot_be_scored_is_refused_before_the_first_step(module, fit, search_loader, trace):
    module = changed(module, **MEAN_LOSS_ONLY)
    callbacks = [HardAttentionCallback(), AccuracyDrivenPruningCallback(search_dataloader=search_loader), trace]
    with pytest.raises(TypeError, match=r"output of Changed .* a tensor of shape \(\).*mean loss alone.*axformer_step"):
        fit(module, callbacks)
    assert "step" not in trace.reached


def test_by_the_validation_set_it_is_refused_before_the_first_step(module, fit, trace):
    with pytest.raises(TypeError, match=r"mean loss alone.*axformer_step"):
        fit(changed(module, **MEAN_LOSS_ONLY), [AccuracyDrivenPruningCallback(), trace])
    assert trace.reached == ["fit"]


def test_an_error_of_the_module_itself_says_what_asked_for_it(module, fit, search_loader):
    module = changed(module, forward=lambda self, **batch: self.anything(**batch).scores)
    with pytest.raises(AttributeError, match="scores") as error:
        fit(module, [HardAttentionCallback(search_dataloader=search_loader)], num_sanity_val_steps=0)
    assert any("before any training" in note and "axformer_step" in note for note in error.value.__notes__)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("with_loader", [True, False])
def test_one_batch_is_scored_for_both_callbacks(module, fit, search_loader, trace, with_loader):
    asked = []

    def axformer_step(batch):
        asked.append((module.training, torch.is_grad_enabled(), *trace.reached))
        logits = module(**batch).logits
        return torch.ones(len(logits)), logits, batch["labels"]

    module.axformer_step = axformer_step
    loader = search_loader if with_loader else None
    callbacks = [
        HardAttentionCallback(search_dataloader=loader),
        AccuracyDrivenPruningCallback(search_dataloader=loader),
    ]
    fit(module, [*callbacks, trace], max_epochs=1)
    assert [call for call in asked if "step" not in call] == [(False, False, "fit")]


def test_the_module_is_as_it_was_after_a_batch_was_scored(module, fit, search_loader, state, trace):
    module.anything.classifier.eval()
    before, random = state(module.anything), []
    trace.on_train_epoch_start = lambda trainer, pl_module: random.append(
        (torch.get_rng_state(), state(pl_module.anything))
    )
    for callbacks in ([], [HardAttentionCallback(search_dataloader=search_loader)]):
        with pytest.warns(UserWarning, match="in eval mode"):
            fit(copy.deepcopy(module), [*callbacks, trace], max_epochs=1)
    assert torch.equal(random[0][0], random[1][0])
    for _, after in random:
        for what in ("values", "training", "hooks", "forwards", "implementation", "attributes"):
            assert after[what] == before[what]


@pytest.mark.parametrize("hook", ["on_before_batch_transfer", "on_after_batch_transfer", "transfer_batch_to_device"])
def test_batches_pass_through_the_hooks_of_the_module(module, fit, search_loader, hook):
    def rename(self, batch, *_, dataloader_idx=0):
        return {"input_ids" if name == "words" else name: value for name, value in batch.items()}

    renamed = [{"words" if name == "input_ids" else name: batch[name] for name in batch} for batch in search_loader]
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=renamed)
    fit(changed(module, **{hook: rename}), [callback], max_epochs=1)
    assert not callback.plan.removes_nothing


def test_what_can_be_read_only_once_is_left_for_the_search(module, fit, search_loader):
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=iter(list(search_loader)))
    fit(module, [callback], max_epochs=1)
    assert callback.plan.decisions[0].samples_seen == 48


def test_an_empty_search_set_is_refused_before_the_first_step(module, fit, trace):
    with pytest.raises(ValueError, match="at least one batch, got an empty one"):
        fit(module, [HardAttentionCallback(search_dataloader=[]), trace])
    assert "step" not in trace.reached


class Adapter(nn.Module):
    """Stands where a linear layer stood, as PEFT's layers do."""

    def __init__(self, base_layer, name):
        super().__init__()
        setattr(self, name, base_layer)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["base_layer", "modules_to_save"])
def test_adapters_are_refused_with_the_remedy(module, fit, trace, name, late):
    if late:
        module = changed(module, setup=lambda self, stage: None)
    module.anything.bert.encoder.layer[1].attention.self.query = Adapter(nn.Linear(32, 32), name)
    with pytest.raises(ValueError, match=r"Adapter at .*query'.*merge_and_unload\(\).*requires_grad_\(True\)"):
        fit(module, [AccuracyDrivenPruningCallback(), trace])
    assert "step" not in trace.reached


def make_late(self, stage=None):
    if self.anything is None:
        self.anything = self.later.pop()


@pytest.fixture
def late(module, request):
    """A module that makes its model in a hook of its own, which runs after the callbacks' setup."""
    hook, *others = request.param
    module = changed(module, **{hook: make_late}, **dict(others))
    module.later, module.anything = [module.anything], None
    return module


@pytest.mark.slow_but_first
@pytest.mark.parametrize("late", [["setup"], ["configure_model"]], indirect=True)
@pytest.mark.parametrize("model", [None, "anything"])
def test_a_model_made_in_a_hook_of_the_module_is_searched(late, fit, search_loader, model):
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader, model=model)
    fit(late, [callback, HardAttentionCallback(k=4, model=model)], max_epochs=1)
    assert not late.anything.axformer_plan.removes_nothing


@pytest.mark.parametrize("late", [["setup", *MEAN_LOSS_ONLY.items()]], indirect=True)
def test_a_model_made_late_is_scored_before_the_first_step(late, fit, search_loader, trace):
    with pytest.raises(TypeError, match="mean loss alone"):
        fit(late, [HardAttentionCallback(search_dataloader=search_loader), trace])
    assert "step" not in trace.reached


def test_a_model_that_never_comes_is_refused(module, fit):
    module = changed(module, setup=lambda self, stage: None)
    module.anything = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="found none"):
        fit(module, [HardAttentionCallback()])


def test_a_model_that_setup_makes_anew_for_a_second_fit_is_cut_in_it(module, fit, search_loader):
    def setup(self, stage):
        self.anything = copy.deepcopy(self.dense[0])

    module = changed(module, setup=setup)
    module.dense = [module.anything]
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    for _ in range(2):
        fit(module, [callback], max_epochs=1)
        assert callback.plan == module.anything.axformer_plan
        assert not callback.plan.removes_nothing


def test_a_head_made_in_setup_is_waited_for(module, fit, search_loader):
    def setup(self, stage):
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, **batch):
        output = self.anything(**batch)
        output.logits = output.logits * self.scale
        return output

    module = changed(module, setup=setup, forward=forward, training_step=training_step, validation_step=validation_step)
    fit(module, [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)], max_epochs=1)
    assert not module.anything.axformer_plan.removes_nothing


def training_step(self, batch, batch_idx):
    return nn.functional.cross_entropy(self(**batch).logits, batch["labels"])


def validation_step(self, batch, batch_idx):
    self.log("val_loss", training_step(self, batch, batch_idx))


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("options", [{"barebones": True}, {"overfit_batches": 2}], ids=str)
@pytest.mark.parametrize("by_validation", [True, False])
def test_shortcuts_of_the_trainer_are_not_refused(module, fit, search_loader, options, by_validation):
    loader = None if by_validation else search_loader
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=loader)
    trainer = fit(module, [callback], max_epochs=2, shuffle=False, **options)
    assert callback.plan.decisions[0].samples_seen == (32 if by_validation else 48)
    assert not callback.plan.removes_nothing
    assert trainer.global_step == 2 * (2 if "overfit_batches" in options else 4)


def compiled_attribute(module):
    module.anything = torch.compile(module.anything, backend="eager")
    return module


def compiled_in_place(module):
    module.anything.compile(backend="eager")
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compile_", "stance"),
    [
        # Wrappers are seen through also where nothing is compiled, which takes seconds.
        (lambda module: torch.compile(module, backend="eager"), "force_eager"),
        (compiled_attribute, "force_eager"),
        (compiled_in_place, "default"),
    ],
)
def test_a_compiled_module_ends_as_one_that_is_not(tiny, module, fit, search_loader, compile_, stance):
    module.anything = tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=1).train()
    plain, plans = copy.deepcopy(module), []
    for each in (plain, compile_(module)):
        callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
        with torch.compiler.set_stance(stance):
            fit(each, [callback], max_epochs=2)
        plans.append(callback.plan)
    assert plans[0] == plans[1]  # with all losses: gates are hooks, which compiled code would not run
    assert not plans[0].removes_nothing
    for expected, actual in zip(plain.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("by_validation", [True, False])
def test_a_module_that_learns_by_another_loss_is_refused_before_the_first_step(
    module, fit, search_loader, trace, by_validation
):
    def smoothed(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(**batch).logits, batch["labels"], label_smoothing=0.3)

    module = changed(module, training_step=smoothed, validation_step=lambda *_: None)
    loader = None if by_validation else search_loader
    with pytest.raises(ValueError, match=r"`training_step` returns .*axformer_step"):
        fit(module, [AccuracyDrivenPruningCallback(search_dataloader=loader), trace])
    assert "step" not in trace.reached


def test_an_iterator_is_checked_too_and_read_once(module, fit, search_loader, trace):
    module = changed(module, **MEAN_LOSS_ONLY)
    with pytest.raises(TypeError, match="mean loss alone"):
        fit(module, [HardAttentionCallback(search_dataloader=iter(list(search_loader))), trace])
    assert "step" not in trace.reached


class Leaves(nn.Module):
    """Counts its calls, in every way."""

    def __init__(self):
        super().__init__()
        self.seen, self.mean, self.norm = [], MeanMetric(), nn.BatchNorm1d(2)

    def forward(self, logits):
        self.seen.append(len(logits))
        self.mean.update(logits.mean())
        self.norm(logits)


@pytest.mark.parametrize("by_validation", [True, False])
def test_a_round_leaves_no_trace_in_the_module(module, fit, search_loader, by_validation):
    def axformer_step(self, batch):
        logits = self(**batch).logits
        self.log("search_loss", logits.mean())
        self.log_dict({"search_mean": logits.mean()})
        self.leaves.train()(logits)
        self.drawn = torch.rand(1, generator=self.generator)
        return (
            nn.functional.cross_entropy(logits, batch["labels"], reduction="none"),
            logits.argmax(-1),
            batch["labels"],
        )

    module = changed(module, axformer_step=axformer_step)
    module.leaves, module.generator = Leaves(), torch.Generator().manual_seed(1)
    loader = None if by_validation else search_loader
    trainer = fit(module, [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=loader)], max_epochs=1)
    assert (module.leaves.seen, module.leaves.mean._update_count, module.leaves.norm.num_batches_tracked) == ([], 0, 0)
    assert torch.equal(module.generator.get_state(), torch.Generator().manual_seed(1).get_state())
    assert not hasattr(module, "drawn")
    assert set(trainer.callback_metrics) == {"val_loss"}


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (HardAttentionCallback, {"k": 2.5}, "`k` to be a whole number, got 2.5"),
        (HardAttentionCallback, {"k": float("nan")}, "`k` to be a whole number"),
        (AccuracyDrivenPruningCallback, {"neuron_groups": 4.0}, "`neuron_groups` to be a whole number"),
        (AccuracyDrivenPruningCallback, {"sweeps": 1.5}, "`sweeps` to be a whole number or None"),
        (AccuracyDrivenPruningCallback, {"rounds": 1.5}, "`rounds` to be a whole number"),
        (AccuracyDrivenPruningCallback, {"first_epoch": 0.5}, "`first_epoch` to be a whole number"),
        (AccuracyDrivenPruningCallback, {"full_scores": "false"}, "`full_scores` to be True or False"),
        (AccuracyDrivenPruningCallback, {"majority": "0.5"}, "`majority` to be a number"),
        (AccuracyDrivenPruningCallback, {"batch_tokens": 1.5}, "`batch_tokens` to be a whole number"),
    ],
)
def test_settings_of_the_wrong_type_are_refused_at_construction(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(**options)


def test_more_groups_than_neurons_are_refused_in_setup(module, fit, trace):
    with pytest.raises(ValueError, match="between 1 and the intermediate size 48, got 100"):
        fit(module, [AccuracyDrivenPruningCallback(neuron_groups=100), trace])
    assert trace.reached == []


@pytest.mark.parametrize("by_validation", [True, False])
@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (MulticlassAUROC(num_classes=2), "MulticlassAUROC: ValueError"),
        (BinaryAveragePrecision(), "BinaryAveragePrecision: "),
        (BinaryAUROC(), "BinaryAUROC: it goes by scores or probabilities, not by predicted classes"),
    ],
    ids=str,
)
def test_a_metric_that_does_not_take_the_predictions_is_refused_before_training(
    module, fit, search_loader, trace, metric, words, by_validation
):
    loader = None if by_validation else search_loader
    with pytest.raises(ValueError, match=words):
        fit(module, [AccuracyDrivenPruningCallback(metric=metric, search_dataloader=loader), trace])
    assert "step" not in trace.reached


def test_the_metric_is_as_new_after_it_was_tried(module, fit, search_loader):
    metric = MeanSquaredError()
    callback = AccuracyDrivenPruningCallback(metric=metric, search_dataloader=search_loader, first_epoch=2)
    fit(module, [callback, Stop()], max_epochs=3)
    assert metric._update_count == 0


class Stop(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        trainer.should_stop = True
        return -1


def test_pruning_masks_of_another_callback_are_refused_in_setup(module, fit, trace):
    with pytest.raises(ValueError, match="got ModelPruning beside AccuracyDrivenPruningCallback"):
        fit(module, [AccuracyDrivenPruningCallback(), ModelPruning("l1_unstructured", amount=0.3), trace])
    assert trace.reached == []


@pytest.mark.parametrize(
    "change", [lambda x: prune.l1_unstructured(x, "weight", 0.3), nn.utils.parametrizations.weight_norm]
)
def test_reparametrised_weights_are_refused_in_setup(module, fit, trace, change):
    change(module.anything.bert.encoder.layer[1].output.dense)
    with pytest.raises(ValueError, match=r"'bert.encoder.layer.1.output.dense'"):
        fit(module, [AccuracyDrivenPruningCallback(), trace])
    assert trace.reached == []


def test_a_validation_set_without_labels_points_to_a_search_set(module, fit):
    def without(self, batch, dataloader_idx):
        return {name: value for name, value in batch.items() if name != "labels"}

    steps = {name: lambda self, batch, i: self(**batch).logits.mean() for name in ("training_step", "validation_step")}
    module = changed(module, on_before_batch_transfer=without, **steps)
    with pytest.raises(ValueError, match=r"Pass a search set with labels .`search_dataloader="):
        fit(module, [AccuracyDrivenPruningCallback()])


@pytest.fixture
def no_directory(tmp_path):
    """A path at which no directory can be made, whoever asks."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "inside"


def test_a_directory_that_cannot_be_written_costs_the_journal_alone(module, fit, search_loader, no_directory, caplog):
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    fit(module, [callback], max_epochs=1, default_root_dir=no_directory)
    assert not callback.plan.removes_nothing
    assert "goes on without its journal" in caplog.text


def test_to_rewind_it_is_tried_in_setup(module, fit, search_loader, no_directory, trace):
    callback = AccuracyDrivenPruningCallback(retrain="rewind", search_dataloader=search_loader)
    with pytest.raises(OSError, match=r"weights that retraining rewinds to.*`default_root_dir="):
        fit(module, [callback, trace], default_root_dir=no_directory)
    assert trace.reached == []
