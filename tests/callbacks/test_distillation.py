"""A teacher in the fit of a stranger's module."""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from axformer_lightning import AccuracyDrivenPruningCallback, DistillationCallback
from axformer_lightning.distillation import soft_loss

LENIENT = {"neuron_groups": 4, "majority": 0, "tolerance": 0.3, "batch_tokens": 200}


@pytest.fixture
def module(module):
    for part in module.modules():  # Lightning checkpoints hold no random state
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return module


@pytest.fixture
def teacher(tiny):
    return tiny.model("bert", "sdpa", num_labels=2, num_hidden_layers=2, seed=1)


def divergence(module, teacher, loader):
    """How far a module is from its teacher."""
    module.eval()
    with torch.no_grad():
        return sum(
            soft_loss(
                module(**batch).logits, teacher(batch["input_ids"], batch["attention_mask"]).logits, temperature=1
            )
            for batch in loader
        )


def hooks(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def test_what_is_taught_is_learnt_and_no_trace_is_left(module, teacher, fit, search_loader):
    before, weights = divergence(module, teacher, search_loader), copy.deepcopy(teacher.state_dict())
    trainer = fit(module.train(), [DistillationCallback(teacher, alpha=1.0, temperature=1)], max_epochs=2)
    assert divergence(module, teacher, search_loader) < before / 2
    trained = {parameter for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert trained == {*module.parameters()}
    assert all(torch.equal(value, weights[name]) for name, value in teacher.state_dict().items())
    assert hooks(module) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_fit_in_which_a_taught_model_is_cut_is_resumed(module, teacher, fit, search_loader, tmp_path):
    resumed, names = copy.deepcopy(module), module.state_dict().keys()

    def callbacks():
        saver = ModelCheckpoint(tmp_path / "saved", filename="{epoch}", save_top_k=-1)
        pruning = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=search_loader, first_epoch=1)
        return [pruning, DistillationCallback(teacher, hidden=0.5), EMAWeightAveraging(decay=0.5), saver]

    fit(module, callbacks(), enable_checkpointing=True, shuffle=False)
    assert not module.anything.axformer_plan.removes_nothing
    path = tmp_path / "saved" / "epoch=0.ckpt"
    assert torch.load(path, weights_only=True)["state_dict"].keys() == names
    fit(resumed, callbacks(), enable_checkpointing=True, shuffle=False, ckpt_path=path)
    for expected, actual in zip(module.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_are_taught(module, teacher, fit, precision):
    before = copy.deepcopy(module.state_dict())
    fit(module, [DistillationCallback(teacher, hidden=1)], max_epochs=1, precision=precision, limit_val_batches=0)
    assert any(
        not torch.equal(value.to(before[name].dtype), before[name]) for name, value in module.state_dict().items()
    )


def test_a_teacher_that_cannot_teach_is_refused_before_training(module, tiny, fit):
    with pytest.raises(ValueError, match="for 2 labels, as the model has, got one for 3"):
        fit(module, [DistillationCallback(tiny.model("bert"))])
    with pytest.raises(ValueError, match="`alpha`"):
        DistillationCallback(tiny.model("bert"), alpha=2)
    assert hooks(module) == 0


def test_a_module_with_a_loss_of_its_own_is_told_so_and_keeps_no_hook(module, teacher, fit):
    module.training_step = lambda batch, batch_idx: module(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).logits.sum()
    with pytest.raises(ValueError, match=r"called with labels in training.*distillation\.soft_loss"):
        fit(module, [DistillationCallback(teacher)])
    assert hooks(module) == 0


@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")
def test_the_student_is_named_where_the_module_holds_its_teacher(module, teacher, fit):
    module.teacher = teacher.requires_grad_(False)
    with pytest.raises(ValueError, match="'anything', 'teacher'"):
        fit(module, [DistillationCallback(teacher)], max_epochs=1)
    modes = []
    teacher.register_forward_hook(lambda teacher, *_: modes.append(teacher.training))
    fit(module.train(), [DistillationCallback(teacher, model="anything")], max_epochs=1)
    assert set(modes) == {False}
