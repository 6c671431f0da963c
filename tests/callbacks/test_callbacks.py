import copy
import logging

import lightning as L
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    HardAttentionCallback,
    find_plan,
    load_from_checkpoint,
)
from axformer_lightning.callbacks import base

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 2.0}


class Spy(L.Callback):
    """Keeps copies of the module before and after every validation and training batch."""

    def __init__(self):
        self.before_validation, self.after_batch = {}, []

    def on_validation_start(self, trainer, pl_module):
        self.before_validation[trainer.current_epoch] = copy.deepcopy(pl_module.anything)

    def on_train_batch_end(self, trainer, pl_module, *args):
        weights = {name: value.detach().clone() for name, value in pl_module.named_parameters()}
        self.after_batch.append((trainer.current_epoch, weights))


@pytest.fixture
def rounds_seen(monkeypatch):
    """Replaces the round by a record of when it would have run."""
    seen = []

    def record(trainer, pl_module, transformer, *, settings, **_):
        seen.append((trainer.global_step, settings.hard_attention, settings.pruning))

    monkeypatch.setattr(base, "run_round", record)
    return seen


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("settings", "trainer", "steps"),
    [
        ({}, {}, [4]),
        ({"first_epoch": 2}, {}, [12]),
        ({"first_epoch": 1, "rounds": 2, "every_n_epochs": 2}, {}, [8, 16]),
        ({"rounds": 2}, {"check_val_every_n_epoch": 2}, [8, 16]),
        ({"first_epoch": 1, "rounds": 2}, {"val_check_interval": 0.5}, [6, 10]),
    ],
)
def test_rounds_follow_the_chosen_validations(module, fit, rounds_seen, settings, trainer, steps):
    fit(module, [AccuracyDrivenPruningCallback(**settings)], max_epochs=4, num_sanity_val_steps=2, **trainer)
    assert [step for step, *_ in rounds_seen] == steps


def test_nothing_happens_in_sanity_checking(module, fit, rounds_seen):
    fit(module, [AccuracyDrivenPruningCallback()], max_epochs=1, num_sanity_val_steps=-1)
    assert [step for step, *_ in rounds_seen] == [4]


def test_nothing_happens_in_fast_dev_run(module, fit, rounds_seen):
    fit(module, [AccuracyDrivenPruningCallback(first_epoch=5), HardAttentionCallback()], fast_dev_run=True)
    assert rounds_seen == []


def test_nothing_happens_in_validate(module, rounds_seen, search_loader):
    callback = AccuracyDrivenPruningCallback()
    trainer = L.Trainer(callbacks=[callback], logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.validate(module, search_loader, verbose=False)
    assert rounds_seen == []
    assert callback.pending_epoch is None


@pytest.mark.slow_but_first
@pytest.mark.parametrize("reverse", [False, True])
def test_one_round_serves_both_callbacks_whatever_their_order(module, fit, rounds_seen, reverse):
    callbacks = [HardAttentionCallback(k=4), AccuracyDrivenPruningCallback(majority=0.25)]
    fit(module, callbacks[::-1] if reverse else callbacks)
    ((_, hard_attention, pruning),) = rounds_seen
    assert (hard_attention, pruning) == (callbacks[0].settings, callbacks[1].settings)


@pytest.mark.always
@pytest.mark.slow_but_first
@pytest.mark.parametrize("reverse", [False, True])
def test_the_plan_is_that_of_find_plan_on_the_module_as_it_was(module, fit, search_loader, reverse):
    hard = HardAttentionCallback(k=4)
    pruning = AccuracyDrivenPruningCallback(repair=False, **LENIENT, search_dataloader=search_loader)
    spy = Spy()
    fit(module, [*([hard, pruning][:: -1 if reverse else 1]), spy], max_epochs=2)
    options = {"hard_attention_k": 4, "criterion": "loss_and_metric", **LENIENT}
    expected = find_plan(spy.before_validation[0], search_loader, **options)
    assert module.anything.axformer_plan == hard.plan == pruning.plan == expected
    assert [decision.kind for decision in expected.decisions][:2] == ["hard_attention"] * 2
    assert any(decision.accepted for decision in expected.decisions)


@pytest.mark.always
def test_weights_get_smaller_during_fit_and_the_remaining_ones_train_on(module, fit, search_loader):
    spy = Spy()
    before = sum(parameter.numel() for parameter in module.parameters())
    trainer = fit(module, [spy, AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)])
    assert sum(parameter.numel() for parameter in module.parameters()) < before
    (_, first), (_, second) = [entry for entry in spy.after_batch if entry[0] == 1][:2]
    frozen = [name for name in first if torch.equal(first[name], second[name]) and "key.bias" not in name]
    assert not [name for name in frozen if first[name].numel()]
    held = {p for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == set(module.parameters())


@pytest.mark.slow
def test_later_rounds_build_on_the_plan(module, fit, search_loader):
    callback = AccuracyDrivenPruningCallback(
        4, majority=0, tolerance=0.05, rounds=2, every_n_epochs=1, search_dataloader=search_loader
    )
    fit(module, [callback], max_epochs=3)
    rounds = [decision.round for decision in callback.plan.decisions]
    assert callback.rounds_done == 2
    assert sorted(rounds) == rounds
    assert set(rounds) == {1, 2}


def test_rewind_goes_back_to_the_weights_at_the_start_of_fit(module, fit, search_loader, monkeypatch, tmp_path):
    start = {name: value.detach().clone() for name, value in module.named_parameters()}
    after_round = {}
    run = base.run_round

    def watched(trainer, pl_module, *args, **kwargs):
        assert list(tmp_path.rglob("axformer_start_*.safetensors"))
        plan = run(trainer, pl_module, *args, **kwargs)
        after_round.update({name: value.detach().clone() for name, value in pl_module.named_parameters()})
        after_round["rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        return plan

    monkeypatch.setattr(base, "run_round", watched)
    callback = AccuracyDrivenPruningCallback(
        **LENIENT, retrain="rewind", first_epoch=1, search_dataloader=search_loader
    )
    fit(module, [callback], max_epochs=3)
    rate = after_round.pop("rate")
    whole = [name for name, value in after_round.items() if value.shape == start[name].shape]
    assert len(after_round) < len(start)
    assert all(torch.equal(after_round[name], start[name]) for name in whole)
    assert rate == pytest.approx(module.learning_rate / 25)  # where OneCycleLR starts
    assert not list(tmp_path.rglob("axformer_start_*"))


@pytest.mark.slow
def test_a_search_that_accepts_nothing_leaves_training_as_it_would_have_been(module, fit, search_loader):
    plain, searched = module, copy.deepcopy(module)
    fit(plain, [])
    callback = AccuracyDrivenPruningCallback(majority=0.99, search_dataloader=search_loader)
    fit(searched, [callback])
    assert not any(decision.accepted for decision in callback.plan.decisions)
    for expected, actual in zip(plain.parameters(), searched.parameters(), strict=True):
        assert torch.equal(expected, actual)


def test_a_metric_can_decide(module, fit, search_loader):
    metric = MulticlassAccuracy(num_classes=2, average="micro")
    callback = AccuracyDrivenPruningCallback(
        4, criterion="metric", metric=metric, majority=0, tolerance=0.5, search_dataloader=search_loader
    )
    spy = Spy()
    fit(module, [spy, callback], max_epochs=1)
    expected = find_plan(
        spy.before_validation[0],
        search_loader,
        hard_attention_k=None,
        neuron_groups=4,
        criterion=metric,
        majority=0,
        tolerance=0.5,
    )
    assert callback.plan == expected


@pytest.mark.slow
def test_the_scorer_of_the_module_is_what_decides(module, fit, search_loader):
    asked = []

    def axformer_step(batch):
        asked.append(len(batch["labels"]))
        logits = module(**batch).logits
        return torch.ones(len(logits)), logits.argmax(-1), batch["labels"]

    module.axformer_step = axformer_step
    callback = AccuracyDrivenPruningCallback(4, search_dataloader=search_loader)
    fit(module, [callback], max_epochs=1)
    assert asked[:3] == [16, 16, 16]
    assert {decision.loss for decision in callback.plan.decisions} == {1.0}


def test_an_exception_in_the_search_leaves_the_module_as_it_was(module, fit, search_loader, state):
    described = {}

    def axformer_step(batch):
        described.setdefault("calls", []).append(1)
        if len(described["calls"]) == 2:  # the first is asked for before training, to see whether it can be scored
            described["before"] = state(copy.deepcopy(module.anything))["values"]
        if len(described["calls"]) == 20:
            raise ZeroDivisionError
        logits = module(**batch).logits
        return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none"), logits, batch["labels"]

    module.axformer_step = axformer_step
    untouched = state(module.anything)
    with pytest.raises(ZeroDivisionError):
        fit(module, [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)], max_epochs=1)
    now = state(module.anything)
    assert now["values"] == described["before"]
    for what in ("forwards", "hooks", "children", "parameters", "configs", "implementation", "attributes"):
        assert now[what] == untouched[what]


@pytest.fixture
def saver(tmp_path):
    return L.pytorch.callbacks.ModelCheckpoint(
        tmp_path / "saved", filename="{epoch}-{val_loss:.6f}", save_top_k=-1, monitor="val_loss"
    )


@pytest.mark.slow
def test_checkpoints_pair_weights_with_their_own_metric(module, fit, search_loader, tiny, saver, tmp_path):
    callback = AccuracyDrivenPruningCallback(**LENIENT, first_epoch=1, search_dataloader=search_loader)
    trainer = fit(module, [callback, saver], max_epochs=3, enable_checkpointing=True)
    fresh = tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2)
    full = sum(parameter.numel() for parameter in fresh.parameters())
    for epoch, is_cut in ((0, False), (1, False), (2, True)):
        (path,) = (tmp_path / "saved").glob(f"epoch={epoch}-*")
        loaded = load_from_checkpoint(type(module), path, transformer=copy.deepcopy(fresh))
        assert type(loaded) is type(module)
        assert (sum(parameter.numel() for parameter in loaded.parameters()) < full) == is_cut
        tester = L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
        (values,) = tester.test(loaded, trainer.val_dataloaders, verbose=False)
        assert values["test_loss"] == pytest.approx(float(path.stem.split("val_loss=")[1]), abs=1e-5)


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_resumed_fit_ends_as_one_that_was_not_interrupted(module, fit, search_loader, saver, tmp_path, epoch):
    # Lightning checkpoints hold no random state, so dropout and shuffling are left out.
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    resumed, again = copy.deepcopy(module), copy.deepcopy(saver)
    callbacks = [
        [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader), HardAttentionCallback(k=4)]
        for _ in range(2)
    ]
    fit(module, [*callbacks[0], saver], enable_checkpointing=True, shuffle=False)
    (path,) = (tmp_path / "saved").glob(f"epoch={epoch}-*")
    fit(resumed, [*callbacks[1], again], enable_checkpointing=True, shuffle=False, ckpt_path=path)
    assert callbacks[0][0].plan == callbacks[1][1].plan == resumed.anything.axformer_plan
    assert callbacks[1][0].rounds_done == 1
    for expected, actual in zip(module.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:You're resuming from a checkpoint")
@pytest.mark.parametrize(
    ("step", "when"), [(2, {"val_check_interval": 0.5}), (8, {"check_val_every_n_epoch": 2})], ids=["within", "between"]
)
def test_a_checkpoint_that_validation_writes_holds_its_round(module, fit, search_loader, tmp_path, step, when):
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    again = copy.deepcopy(module)
    callbacks = [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader) for _ in range(2)]

    def saver():
        return L.pytorch.callbacks.ModelCheckpoint(tmp_path / "saved", filename="{step}", save_top_k=-1)

    fit(module, [callbacks[0], saver()], enable_checkpointing=True, shuffle=False, **when)
    path = tmp_path / "saved" / f"step={step}.ckpt"
    fit(again, [callbacks[1], saver()], enable_checkpointing=True, shuffle=False, ckpt_path=path, **when)
    assert callbacks[1].rounds_done == 1
    assert callbacks[1].plan == callbacks[0].plan  # with all losses: no step came between checkpoint and round
    if step == 8:  # the end of an epoch: in its middle Lightning reads the loader from the start
        assert all(torch.equal(one, other) for one, other in zip(module.parameters(), again.parameters(), strict=True))


def test_hard_attention_alone_removes_nothing(module, fit, search_loader):
    callback = HardAttentionCallback(k=2, majority=0, tolerance=1.0, search_dataloader=search_loader)
    fit(module, [callback], max_epochs=1)
    assert callback.plan.removes_nothing
    assert {decision.kind for decision in callback.plan.decisions} == {"hard_attention"}
    assert {layer.hard_attention.k for layer in callback.plan.layers if layer.hard_attention} == {2}


def test_the_model_is_named_where_there_are_several(module, fit, search_loader):
    module.teacher = copy.deepcopy(module.anything).requires_grad_(False)
    with pytest.raises(ValueError, match=r"Expected one Hugging Face model.*'anything', 'teacher'"):
        fit(module, [AccuracyDrivenPruningCallback()], max_epochs=1)
    fit(
        module,
        [AccuracyDrivenPruningCallback(**LENIENT, model="anything", search_dataloader=search_loader)],
        max_epochs=1,
    )
    assert not module.anything.axformer_plan.removes_nothing
    assert not hasattr(module.teacher, "axformer_plan")


@pytest.mark.slow
def test_the_validation_set_decides_only_with_a_word(module, fit, search_loader, caplog):
    callbacks = [HardAttentionCallback(k=4), AccuracyDrivenPruningCallback()]
    with caplog.at_level(logging.WARNING):
        fit(module, callbacks, max_epochs=1)
    assert caplog.text.count("no unbiased estimate") == 1
    assert callbacks[1].plan.decisions[0].samples_seen == 32
    caplog.clear()
    fit(module, [AccuracyDrivenPruningCallback(search_dataloader=search_loader)], max_epochs=1)
    assert "no unbiased estimate" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "trainer", "message"),
    [
        ({"first_epoch": 2}, {}, "Expected at least 3 epochs"),
        ({"rounds": 3, "every_n_epochs": 2}, {}, "Expected at least 5 epochs"),
        ({"first_epoch": 1, "retrain": "rewind"}, {}, "Expected at least 3 epochs"),
        ({"first_epoch": 1}, {"check_val_every_n_epoch": 3}, "Expected at least 3 epochs"),
        ({}, {"limit_val_batches": 0}, "Expected a validation loop"),
    ],
)
def test_a_fit_that_cannot_hold_the_rounds_is_refused(module, fit, settings, trainer, message):
    with pytest.raises(ValueError, match=message):
        fit(module, [AccuracyDrivenPruningCallback(**settings)], max_epochs=2, **trainer)


def test_callbacks_that_contradict_each_other_are_refused(module, fit):
    with pytest.raises(ValueError, match="agree on `criterion`"):
        fit(
            module,
            [HardAttentionCallback(criterion="metric", metric=MulticlassAccuracy(2)), AccuracyDrivenPruningCallback()],
        )
    metrics = [{"criterion": "metric", "metric": MulticlassAccuracy(2)} for _ in range(2)]
    with pytest.raises(ValueError, match="agree on `metric`"):
        fit(module, [HardAttentionCallback(**metrics[0]), AccuracyDrivenPruningCallback(**metrics[1])])
    with pytest.raises(ValueError, match="agree on `retrain`"):
        fit(module, [HardAttentionCallback(retrain="rewind"), AccuracyDrivenPruningCallback()])


@pytest.mark.slow_but_first
@pytest.mark.parametrize("alone", [False, True], ids=["with pruning", "alone"])
def test_by_default_the_loss_has_to_fall_and_no_label_may_be_lost(module, fit, search_loader, alone):
    hard = HardAttentionCallback(k=2, search_dataloader=search_loader)
    pruning = AccuracyDrivenPruningCallback(4, repair=False, search_dataloader=search_loader)
    callbacks = [hard] if alone else [hard, pruning]
    spy = Spy()
    fit(module, [*callbacks, spy], max_epochs=1)
    rule = {"majority": 0, "criterion": "loss_and_metric"}
    expected = find_plan(spy.before_validation[0], search_loader, hard_attention_k=2, neuron_groups=4, **rule).decisions
    assert hard.plan.decisions == (expected[:2] if alone else expected)
    assert all(decision.metric_before is not None for decision in hard.plan.decisions)


@pytest.mark.parametrize(("own", "hardened"), [({}, 2), ({"tolerance": 0.0, "majority": 0.99}, 0)])
def test_hard_attention_may_be_judged_by_a_rule_of_its_own(module, fit, search_loader, own, hardened):
    hard = HardAttentionCallback(k=9, **own)
    pruning = AccuracyDrivenPruningCallback(4, majority=0, tolerance=50.0, search_dataloader=search_loader)
    fit(module, [hard, pruning], max_epochs=1)
    accepted = [decision.kind for decision in pruning.plan.decisions if decision.accepted]
    assert accepted.count("hard_attention") == hardened
    assert len(accepted) > hardened


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_epoch": -1}, "`first_epoch` to be at least 0, got -1"),
        ({"rounds": 0}, "`rounds` to be at least 1, got 0"),
        ({"every_n_epochs": 0}, "`every_n_epochs` to be at least 1, got 0"),
        ({"retrain": "again"}, "'continue' or 'rewind', got 'again'"),
        ({"majority": 1}, r"`majority` in \[0, 1\)"),
        ({"tolerance": -0.1}, "`tolerance`"),
        ({"criterion": "f1"}, "`criterion`"),
        ({"criterion": "metric"}, "Expected a metric"),
    ],
)
@pytest.mark.parametrize("callback", [AccuracyDrivenPruningCallback, HardAttentionCallback])
def test_settings_out_of_range_are_refused_at_once(callback, settings, message):
    with pytest.raises(ValueError, match=message):
        callback(**settings)


def test_a_module_whose_transformer_is_unknown_or_absent_is_refused_before_training(module, fit):
    module.anything.config.model_type = "unheard-of"
    with pytest.raises(ValueError, match="register_family"):
        fit(module, [AccuracyDrivenPruningCallback()])
    module.anything = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="found none"):
        fit(module, [AccuracyDrivenPruningCallback()])


def test_the_state_of_a_callback_is_plain_and_comes_back(module, fit, search_loader, tmp_path):
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)
    fit(module, [callback], max_epochs=1)
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    again = AccuracyDrivenPruningCallback()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.plan, again.rounds_done, again.next_epoch) == (callback.plan, 1, 1)


@pytest.mark.slow
def test_modules_of_the_older_package_work_too(tiny, search_loader, tmp_path):
    import pytorch_lightning

    class Older(pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.encoder = tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2).train()

        def forward(self, **batch):
            return self.encoder(**batch)

        def training_step(self, batch, batch_idx):
            return self(**batch).loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self(**batch).loss)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    module = Older()
    callbacks = [AccuracyDrivenPruningCallback(**LENIENT), HardAttentionCallback(k=4)]
    trainer = pytorch_lightning.Trainer(
        max_epochs=2, callbacks=list(callbacks), logger=False, accelerator="cpu", default_root_dir=tmp_path
    )
    trainer.fit(module, search_loader, search_loader)
    assert callbacks[1].plan == module.encoder.axformer_plan
    assert not callbacks[0].plan.removes_nothing


def test_a_model_made_in_configure_model_is_checked_once_it_is_there(module, fit, search_loader):
    class Late(type(module)):
        def __init__(self, transformer):
            super().__init__(None)
            self.later = [transformer]

        def configure_model(self):
            self.anything = self.anything or self.later.pop()

    late = Late(module.anything)
    fit(late, [AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader)], max_epochs=1)
    assert not late.anything.axformer_plan.removes_nothing
