from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from axformer_lightning.distillation import Distillation, soft_loss
from axformer_lightning.tasks import TASKS, TextClassifier

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture
def module(tiny):
    return TextClassifier(tiny.model("bert", "sdpa", num_labels=2).train(), TASKS["mrpc"], learning_rate=1e-3)


@pytest.fixture
def loader(tiny):
    batch = tiny.batch()
    batch["labels"] %= 2
    return DataLoader([{name: value[i] for name, value in batch.items()} for i in range(6)], batch_size=4)


def test_dev_metrics_are_those_of_all_samples_under_their_official_names(module, loader):
    (values,) = L.Trainer(**OPTIONS).test(module, loader, verbose=False)
    module.eval()
    with torch.no_grad():
        outputs = [(module(**batch).logits.argmax(-1), batch["labels"]) for batch in loader]
    predicted, target = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    hits = int(((predicted == 1) & (target == 1)).sum())
    assert values["accuracy"] == pytest.approx((predicted == target).float().mean().item())
    assert values["f1"] == pytest.approx(2 * hits / max(1, int((predicted == 1).sum() + (target == 1).sum())))


def test_every_parameter_is_trained_and_only_matrices_decay(module, loader):
    trainer = L.Trainer(max_epochs=1, **OPTIONS)
    trainer.fit(module, loader, loader)
    decayed, others = trainer.optimizers[0].param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert others["weight_decay"] == 0
    assert {*decayed["params"], *others["params"]} == set(module.parameters())


class Gradients(L.Callback):
    """Sees the gradients by which each step but the last was made."""

    def __init__(self):
        self.found = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if kept := [p.grad.flatten().clone() for p in pl_module.parameters() if p.grad is not None]:
            self.found.append(torch.cat(kept))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
def test_gradients_are_clipped_before_a_fused_step(module, loader, precision, algorithm):
    seen, clip = Gradients(), {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    trainer = L.Trainer(
        max_epochs=1, precision=precision, callbacks=[seen], enable_model_summary=False, **clip, **OPTIONS
    )
    trainer.fit(module, loader, loader)
    (gradient,) = seen.found
    size = gradient.abs().max() if algorithm == "value" else gradient.norm()
    assert size == pytest.approx(1e-3, rel=1e-3)
    assert trainer.optimizers[0].defaults["fused"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_left_as_they_are_unless_asked(module, loader, precision):
    seen = Gradients()
    trainer = L.Trainer(max_epochs=1, precision=precision, callbacks=[seen], enable_model_summary=False, **OPTIONS)
    trainer.fit(module, loader, loader)
    assert seen.found[0].norm() > 0.1


def test_no_step_is_fused_where_gradients_are_scaled(module):
    module._trainer = SimpleNamespace(precision="16-mixed", estimated_stepping_batches=4)
    assert not module.configure_optimizers()["optimizer"].defaults["fused"]


def test_the_learning_rate_rises_and_falls_to_nothing(module, loader):
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, *args):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module.warmup = 0.25
    trainer = L.Trainer(max_epochs=4, callbacks=[Watch()], **OPTIONS)
    trainer.fit(module, loader, loader)
    assert rates == pytest.approx([0.0, 5e-4, 1e-3, 1e-3 * 5 / 6, 1e-3 * 4 / 6, 1e-3 * 3 / 6, 1e-3 * 2 / 6, 1e-3 / 6])


@pytest.mark.parametrize(("name", "num_labels"), [("mrpc", 2), ("stsb", 1)])
def test_what_is_predicted_is_a_class_or_a_score(tiny, logits, name, num_labels):
    model, batch = tiny.model("bert", "sdpa", num_labels=num_labels), tiny.batch()
    module = TextClassifier(model, TASKS[name]).eval()
    del batch["labels"]
    with torch.no_grad():
        predicted = module.predict_step(batch, 0)
    expected = logits(model, batch)
    expected = expected.argmax(-1) if name == "mrpc" else expected[:, 0]
    torch.testing.assert_close(predicted, expected, check_dtype=False)
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
        assert module.predict_step(batch, 0).isnan().all()


@pytest.mark.parametrize(("task", "labels"), [("mrpc", 2), ("stsb", 1)])
def test_a_teacher_s_logits_in_a_batch_take_part_in_its_loss(tiny, task, labels):
    module = TextClassifier(tiny.model("bert", num_labels=labels), TASKS[task])
    module.log = lambda *args, **options: None
    batch = tiny.batch()
    batch["labels"] = batch["labels"] % 2 if labels == 2 else batch["labels"].float()
    output, taught = module(**batch), torch.randn(6, labels)
    plain = module.training_step({**batch}, 0)
    assert torch.equal(plain, output.loss)
    module.distillation = Distillation(temperature=3, alpha=0.7)
    assert torch.equal(module.training_step({**batch}, 0), plain)
    soft = soft_loss(output.logits, taught, temperature=3)
    torch.testing.assert_close(module.training_step({**batch, "teacher_logits": taught}, 0), 0.3 * plain + 0.7 * soft)
