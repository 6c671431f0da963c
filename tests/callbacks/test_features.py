"""What Lightning offers beside plain training, across a cut."""

import copy
import itertools
import math

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.plugins import MixedPrecision
from transformers import AutoModelForMaskedLM

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback
from axformer_lightning.anatomy import LayerPlan, layers_left
from tests.callbacks.conftest import Classifier, loader

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:You're resuming from a checkpoint that ended before",
    "ignore:Be aware that when using `ckpt_path`",
    "ignore:.*SWA",
)
LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0}


@pytest.fixture
def pruning(search_loader):
    """Makes a callback whose round removes much."""
    return lambda **options: AccuracyDrivenPruningCallback(**LENIENT | {"search_dataloader": search_loader} | options)


class Watcher(L.Callback):
    """Notes after every training batch what there is to see."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.seen.append(self.look(trainer, pl_module))


class Unscheduled(Classifier):
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def weights(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def is_cut(module):
    return any(layer != LayerPlan(hard_attention=layer.hard_attention) for layer in layers_left(module.anything))


def assert_same(module, other):
    assert module.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.fixture
def still(module):
    """A module without dropout: Lightning checkpoints hold no random state."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return module


# Averages


AVERAGES = {
    "mean": lambda: WeightAveraging(),
    "moving": lambda: EMAWeightAveraging(decay=0.5),
    "stochastic": lambda: StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1),
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("make", AVERAGES.values(), ids=AVERAGES)
def test_averages_follow_the_cut(tiny, fit, pruning, make):
    module = Unscheduled(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train())
    averaging, before = make(), size(module)
    fit(module, [averaging, pruning()], max_epochs=4)
    assert size(module) < before
    assert layers_left(module.anything) == module.anything.axformer_plan.layers
    assert all(value.isfinite().all() for value in module.parameters())


def test_a_moving_average_is_what_it_would_be_by_hand(module, fit, pruning):
    averaging = EMAWeightAveraging(decay=0.5)
    watcher = Watcher(lambda trainer, pl_module: (weights(pl_module), weights(averaging._average_model.module)))
    fit(module, [averaging, watcher, pruning()], max_epochs=2)
    trained, averages = zip(*watcher.seen, strict=True)
    cut_at = next(i for i, now in enumerate(trained) if len(now) < len(trained[0]) or shapes(now) != shapes(trained[0]))
    for i in range(cut_at + 1, len(trained)):
        for name, value in averages[i].items():
            torch.testing.assert_close(value, (averages[i - 1][name] + trained[i][name]) / 2)
    assert {name: value.shape for name, value in averages[cut_at].items()} == shapes(trained[cut_at])
    torch.testing.assert_close(weights(module), averages[-1])


def shapes(named):
    return {name: value.shape for name, value in named.items()}


def test_a_rewound_average_begins_anew(module, fit, pruning):
    averaging = WeightAveraging()
    watcher = Watcher(lambda trainer, pl_module: (weights(pl_module), averaging._average_model.n_averaged.item()))
    fit(module, [averaging, watcher, pruning(retrain="rewind")], max_epochs=2)
    assert [count for _, count in watcher.seen] == [1, 2, 3, 4, 1, 2, 3, 4]


class Once(WeightAveraging):
    """Takes part in training before the round and never after."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return step_idx == 2


def test_an_average_that_is_not_updated_any_more_is_rewound_too(module, fit, pruning):
    start = weights(module)
    fit(module, [Once(), pruning(retrain="rewind")], max_epochs=2)
    for name, value in module.named_parameters():
        if value.shape == start[name].shape:
            assert torch.equal(value, start[name]), name


@pytest.mark.slow
def test_a_resumed_average_ends_as_one_that_was_not_interrupted(still, fit, pruning, tmp_path):
    twin = copy.deepcopy(still)
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    options = {"enable_checkpointing": True, "shuffle": False}
    fit(still, [EMAWeightAveraging(decay=0.5), saver, pruning()], **options)
    saver = ModelCheckpoint(tmp_path / "again", filename="{epoch}", save_top_k=-1)
    resumed = [EMAWeightAveraging(decay=0.5), saver, pruning()]
    fit(twin, resumed, ckpt_path=tmp_path / "epoch=1.ckpt", **options)
    assert is_cut(twin)
    assert_same(still, twin)


# What watches a metric


class Falling(Unscheduled):
    """Its validation loss gets a little worse every epoch, and much worse by a cut."""

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 1.0 + 0.1 * self.current_epoch + 5.0 * is_cut(self))


@pytest.fixture
def falling(tiny):
    return Falling(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train())


def test_early_stopping_compares_a_cut_model_with_itself(falling, fit, pruning):
    stopping = EarlyStopping("val_loss", patience=2)
    trainer = fit(falling, [stopping, pruning(first_epoch=1)], max_epochs=10)
    # Epochs 0 and 1 are dense; 2 is the best of the cut ones, 3 and 4 are worse.
    assert trainer.current_epoch == 5
    assert stopping.best_score.item() == pytest.approx(6.2)


@pytest.mark.slow
def test_a_round_that_removes_nothing_does_not_start_a_new_comparison(falling, fit, search_loader):
    never = AccuracyDrivenPruningCallback(majority=0.99, search_dataloader=search_loader, first_epoch=1)
    stopping = EarlyStopping("val_loss", patience=2)
    trainer = fit(falling, [stopping, never], max_epochs=10)
    assert trainer.current_epoch == 3
    assert stopping.best_score.item() == pytest.approx(1.0)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_is_one_of_the_last_shape(falling, fit, pruning, tmp_path, mode):
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", monitor="val_loss", mode=mode)
    fit(falling, [saver, pruning(first_epoch=1)], max_epochs=5, enable_checkpointing=True)
    best = {"min": ("epoch=2.ckpt", 6.2), "max": ("epoch=4.ckpt", 6.4)}[mode]
    assert saver.best_model_path == str(tmp_path / best[0])
    assert saver.best_model_score.item() == pytest.approx(best[1])
    dense = {"min": "epoch=0.ckpt", "max": "epoch=1.ckpt"}[mode]
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == sorted([dense, best[0]])


def test_no_monitored_checkpoint_is_written_between_a_cut_and_the_next_validation(falling, fit, pruning, tmp_path):
    saver = ModelCheckpoint(
        tmp_path, filename="{epoch}-{step}-{val_loss}", monitor="val_loss", save_top_k=-1, every_n_train_steps=1
    )
    every = ModelCheckpoint(tmp_path / "all", filename="{step}", save_top_k=-1, every_n_train_steps=1)
    fit(falling, [saver, every, pruning()], max_epochs=3, enable_checkpointing=True)
    steps = {int(path.stem.split("step=")[1].split("-")[0]) for path in tmp_path.glob("*.ckpt")}
    assert steps == {9, 10, 11, 12}  # validated after steps 4 and 8, cut before step 5
    for path in tmp_path.glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        cut = any(
            item["plan"] for state in checkpoint["callbacks"].values() for item in state.get("axformer_plans", ())
        )
        assert cut == (float(path.stem.split("val_loss=")[1]) > 5)
    assert len(list((tmp_path / "all").glob("*.ckpt"))) == 12


@pytest.mark.slow
def test_a_resume_between_a_cut_and_the_next_validation_still_compares_anew(falling, fit, pruning, tmp_path):
    saver = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    twin = copy.deepcopy(falling)
    options = {"enable_checkpointing": True, "shuffle": False}
    fit(falling, [EarlyStopping("val_loss", patience=2), saver, pruning(first_epoch=1)], max_epochs=3, **options)
    stopping = EarlyStopping("val_loss", patience=2)
    again = ModelCheckpoint(
        tmp_path / "again", filename="{step}", monitor="val_loss", save_top_k=-1, every_n_train_steps=1
    )
    trainer = fit(
        twin, [stopping, again, pruning(first_epoch=1)], max_epochs=10, ckpt_path=tmp_path / "step=9.ckpt", **options
    )
    assert trainer.current_epoch == 5
    assert stopping.best_score.item() == pytest.approx(6.2)
    assert min(int(path.stem.removeprefix("step=")) for path in (tmp_path / "again").glob("*.ckpt")) == 13


# Checkpoints of another shape


@pytest.mark.slow_but_first
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_checkpoint_from_before_the_cut_is_loaded_into_a_cut_module(module, fit, pruning, tmp_path, stage, tiny):
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = fit(module, [saver, HardAttentionCallback(k=3), pruning()], enable_checkpointing=True)
    assert is_cut(module)
    path = tmp_path / "epoch=0.ckpt"
    getattr(trainer, stage)(module, loader(32, 1), ckpt_path=path, **({} if stage == "predict" else {"verbose": False}))
    dense = torch.load(path, weights_only=True)["state_dict"]
    assert not is_cut(module)
    assert all(torch.equal(value, dense[name]) for name, value in module.state_dict().items())
    fresh = Classifier(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2))
    fresh.load_state_dict(dense)
    batch = next(iter(loader(32, 1)))
    with torch.no_grad():
        assert torch.equal(module.eval()(**batch).logits, fresh.eval()(**batch).logits)


@pytest.mark.slow
def test_fit_goes_on_from_before_the_cut_in_a_module_that_is_cut(still, fit, pruning, tmp_path):
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    options = {"enable_checkpointing": True, "shuffle": False}
    fit(still, [saver, pruning()], **options)
    expected = copy.deepcopy(still)
    again = ModelCheckpoint(tmp_path / "again", save_top_k=0)
    fit(still, [again, pruning()], ckpt_path=tmp_path / "epoch=0.ckpt", **options)
    assert_same(still, expected)


# Precision, accumulation and the like


@pytest.mark.slow_but_first
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions(module, fit, pruning, precision):
    before = size(module)
    fit(module, [HardAttentionCallback(k=3), pruning()], precision=precision)
    assert size(module) < before
    expected = {"bf16-mixed": torch.float32, "64-true": torch.float64, "bf16-true": torch.bfloat16}[precision]
    assert {parameter.dtype for parameter in module.parameters()} == {expected}
    assert all(parameter.isfinite().all() for parameter in module.parameters())


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # where the first steps are left out
@pytest.mark.parametrize("scale", [128.0, 2.0**60], ids=["finite", "overflowing"])
def test_scaled_float16(module, fit, pruning, scale):
    """As ``precision="16-mixed"`` does on a GPU; torch casts to float16 and scales gradients on the CPU as well."""
    before, scaler = size(module), torch.amp.GradScaler("cpu", init_scale=scale)
    watcher = Watcher(lambda trainer, pl_module: weights(pl_module))
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fit(module, [HardAttentionCallback(k=3), pruning(), watcher], plugins=[precision])
    assert size(module) < before
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    steps = [(then, now) for then, now in itertools.pairwise(watcher.seen) if shapes(then) == shapes(now)]
    moved = [any(not torch.equal(then[name], now[name]) for name in now) for then, now in steps]
    if scale == 128:
        assert all(moved)
        assert scaler.get_scale() == scale
    else:  # every step is left out, before the cut and after it
        assert not any(moved)
        assert scaler.get_scale() == scale / 2 ** len(watcher.seen)


OPTIONS = {
    "accumulated gradients": {"accumulate_grad_batches": 3},
    "accumulated gradients and a round within": {"accumulate_grad_batches": 3, "val_check_interval": 2},
    "clipped gradients": {"gradient_clip_val": 0.1},
    "validation within the epoch": {"val_check_interval": 0.5},
    "few validation batches": {"limit_val_batches": 1},
    "few training batches": {"limit_train_batches": 2},
    "no sanity check": {"num_sanity_val_steps": 0},
    "anomalies detected": {"detect_anomaly": True},
}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_the_trainer(module, fit, pruning, options):
    before = size(module)
    watcher = Watcher(lambda trainer, pl_module: weights(pl_module))
    fit(module, [watcher, pruning()], **options)
    assert size(module) < before
    first = next(now for now in watcher.seen if shapes(now) == shapes(watcher.seen[-1]))
    still = [name for name, value in watcher.seen[-1].items() if torch.equal(value, first[name])]
    assert [name for name in still if "position_embeddings" not in name and "key.bias" not in name] == []


@pytest.mark.slow_but_first
@pytest.mark.parametrize(("limit", "samples"), [(1, 16), (0.5, 16), (1.0, 32)])
def test_no_more_validation_batches_decide_than_the_trainer_reads(module, fit, pruning, limit, samples):
    callback = pruning(search_dataloader=None)
    fit(module, [callback], max_epochs=1, limit_val_batches=limit)
    assert max(decision.samples_seen for decision in callback.plan.decisions) == samples


@pytest.mark.slow
def test_gradient_checkpointing(module, fit, pruning):
    twin = copy.deepcopy(module)
    module.anything.activation_checkpointing_enable()
    fit(module, [pruning()], shuffle=False)
    fit(twin, [pruning()], shuffle=False)
    assert is_cut(module)
    torch.testing.assert_close(weights(module), weights(twin))


def test_frozen_layers_stay_frozen_and_are_cut_too(module, fit, pruning):
    frozen = module.anything.bert.encoder.layer[0]
    for parameter in frozen.parameters():
        parameter.requires_grad = False
    names = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    before = weights(module)
    fit(module, [pruning()])
    left = {name: parameter for name, parameter in module.named_parameters() if name in names}
    assert not any(parameter.requires_grad for parameter in left.values())
    for name, value in left.items():
        if value.shape == before[name].shape:
            assert torch.equal(value, before[name])


class Words(Classifier):
    """A language model whose output layer shares the weights of the embeddings."""

    def training_step(self, batch, batch_idx):
        return self.anything(**batch | {"labels": batch["input_ids"]}).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def axformer_step(self, batch):
        logits = self.anything(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["input_ids"], reduction="none")
        return loss.mean(1), logits.argmax(-1), batch["input_ids"]


@pytest.mark.slow
def test_tied_weights_stay_tied(tiny, fit, pruning):
    module = Words(tiny.model("bert", "sdpa", AutoModelForMaskedLM).train())
    fit(module, [pruning()])
    assert is_cut(module)
    assert module.anything.get_output_embeddings().weight is module.anything.get_input_embeddings().weight


class Manual(Classifier):
    """Steps two optimizers by hand, one for the encoder and one for the rest."""

    def __init__(self, transformer):
        super().__init__(transformer)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(self(**batch).loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        encoder = set(self.anything.bert.encoder.parameters())
        rest = [parameter for parameter in self.parameters() if parameter not in encoder]
        return torch.optim.AdamW(encoder, lr=1e-3), torch.optim.SGD(rest, lr=1e-3, momentum=0.9)


def test_several_optimizers_stepped_by_hand(tiny, fit, pruning):
    module = Manual(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train())
    watcher = Watcher(lambda trainer, pl_module: weights(pl_module))
    fit(module, [watcher, pruning()])
    assert is_cut(module)
    first = next(now for now in watcher.seen if shapes(now) == shapes(watcher.seen[-1]))
    still = [name for name, value in watcher.seen[-1].items() if torch.equal(value, first[name])]
    assert [name for name in still if "position_embeddings" not in name and "key.bias" not in name] == []


class Validated(L.LightningDataModule):
    def train_dataloader(self):
        return loader(64, 0)

    def val_dataloader(self):
        return [loader(32, 1), loader(16, 5)]


def test_several_validation_dataloaders_decide_together(module, fit, tmp_path):
    class Several(type(module)):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    module.__class__ = Several
    callback = AccuracyDrivenPruningCallback(**LENIENT)
    trainer = L.Trainer(
        max_epochs=2, callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, Validated())
    assert {decision.samples_seen for decision in callback.plan.decisions if decision.accepted} == {48}


# Several fits


def test_a_second_fit_goes_on_with_the_cut_module_and_its_rounds(module, fit, pruning):
    callback = pruning()
    fit(module, [callback], max_epochs=2)
    plan = callback.plan
    fit(module, [callback], max_epochs=2)
    assert callback.plan is plan
    assert callback.rounds_done == 1
    assert layers_left(module.anything) == callback.plan.layers


@pytest.mark.slow
def test_a_fit_of_another_module_begins_anew(module, fit, pruning, tiny):
    callback = pruning()
    fit(module, [callback], max_epochs=2)
    other = Classifier(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2, seed=1).train())
    fit(other, [callback], max_epochs=2)
    assert is_cut(other)
    assert callback.plan == other.anything.axformer_plan != module.anything.axformer_plan


@pytest.mark.slow
def test_a_module_that_was_cut_before_the_fit_keeps_its_plan_in_checkpoints(module, fit, pruning, tmp_path, tiny):
    fit(module, [pruning()], max_epochs=2)
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = fit(module, [saver, pruning(first_epoch=1)], max_epochs=2, enable_checkpointing=True)
    fresh = Classifier(tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2))
    (values,) = trainer.validate(fresh, loader(32, 1), ckpt_path=tmp_path / "epoch=0.ckpt", verbose=False)
    assert is_cut(fresh)
    assert math.isfinite(values["val_loss"])
