"""Fits of a stranger's module in several processes, for test_ddp.py: `python ddp_run.py OUT CASE...`.

Lightning starts this file once more for each further process; what each process saw goes to `OUT/CASE-RANK.pt`.
"""

import copy
import os
import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler
from torchmetrics.classification import MulticlassAccuracy
from transformers import BertConfig, BertForSequenceClassification

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    DistillationCallback,
    HardAttentionCallback,
    ShrinkCallback,
)
from axformer_lightning.training import follow_workers_, starting_point

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # gradients are computed once more
LENIENT = {"neuron_groups": 4, "majority": 0.5, "tolerance": 0.2, "batch_tokens": 40}
PLAIN = LENIENT | {"repair": False}  # as `find_plan` decides, which repairs nothing
OPTIONS = ("static_graph", "find_unused_parameters", "gradient_as_bucket_view")


class Stranger(L.LightningModule):
    """Knows nothing of plans."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.anything = BertForSequenceClassification(
            BertConfig(**SIZES, **QUIET, intermediate_size=48, max_position_embeddings=16, initializer_range=0.5)
        )

    def forward(self, **batch):
        return self.anything(**batch)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self(**batch).loss, sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Watch(L.Callback):
    """Notes what its process sees, and in the first step after a cut what its own gradients would be."""

    def __init__(self, path):
        self.path, self.seen = path, {"plan": None}

    def axformer_cut(self, edits):
        """Records need not follow."""

    def on_train_start(self, trainer, pl_module):
        self.seen["start"] = weights(pl_module)

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.seen.setdefault("before", copy.deepcopy(pl_module.anything))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batch, self.rank = batch, trainer.global_rank

    def on_before_backward(self, trainer, pl_module, loss):
        self.pending = gradients(pl_module.anything)  # of batches before, where gradients are accumulated

    def on_after_backward(self, trainer, pl_module):
        plan = getattr(pl_module.anything, "axformer_plan", None)
        if plan is None or "gradients" in self.seen:
            return
        alone = copy.deepcopy(pl_module.anything)
        alone.zero_grad()
        (alone(**self.batch).loss / trainer.accumulate_grad_batches).backward()
        own = {name: value + self.pending.get(name, 0) for name, value in gradients(alone).items()}
        self.seen |= {"plan": plan, "step": trainer.global_step, "cut": weights(pl_module)}
        self.seen |= {"gradients": gradients(pl_module.anything), "own": own}
        self.seen["options"] = [getattr(trainer.strategy.model, name) for name in OPTIONS]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for averaging in (other for other in trainer.callbacks if isinstance(other, EMAWeightAveraging)):
            averages = weights(averaging._average_model.module)
            self.seen.setdefault("steps", []).append((weights(pl_module), averages))

    def on_fit_end(self, trainer, pl_module):
        self.seen |= {"end": weights(pl_module), "val_loss": trainer.callback_metrics["val_loss"].item()}
        self.seen["files"] = writes
        torch.save(self.seen, f"{self.path}-{self.rank}.pt")


def weights(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def samples(count, seed):
    words = torch.randint(5, 50, (count, 10), generator=torch.Generator().manual_seed(seed))
    masks = (torch.arange(10) < torch.arange(4, 4 + count)[:, None] % 7 + 4).long()
    return [
        {"input_ids": ids * mask, "attention_mask": mask, "labels": (ids[1] > 27).long()}
        for ids, mask in zip(words, masks, strict=True)
    ]


def loader(count, seed, **options):
    return DataLoader(samples(count, seed), batch_size=8, **options)


def fit(module, out, case, callbacks, strategy="ddp", max_epochs=2, **options):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        strategy=strategy,
        devices=2,
        accelerator="cpu",
        max_epochs=max_epochs,
        callbacks=[*callbacks, Watch(out / case)],
        default_root_dir=out / case,
        **quiet,
        **options,
    )
    trainer.fit(module, loader(32, 0), loader(33, 1))
    return module


def search(out):
    """The user's loader is not divided; it holds an odd number of batches."""
    pruning = AccuracyDrivenPruningCallback(**PLAIN, search_dataloader=loader(37, 2))
    fit(Stranger(), out, "search", [HardAttentionCallback(k=4), pruning])


def validation(out):
    """Lightning divides the validation set, and repeats a sample for that."""
    strategy = DDPStrategy(find_unused_parameters=True)
    fit(Stranger(), out, "validation", [AccuracyDrivenPruningCallback(**PLAIN)], strategy)


def parts(out):
    """The user gives every process its own part, and the second none; a teacher takes part in the loss."""
    part = loader(20, 2) if os.environ.get("LOCAL_RANK", "0") == "0" else []
    callback = AccuracyDrivenPruningCallback(**PLAIN, search_dataloader=part)
    teacher = Stranger().anything
    with torch.no_grad():
        teacher.classifier.weight.neg_()
    taught = DistillationCallback(teacher)
    fit(Stranger(), out, "parts", [taught, callback], DDPStrategy(static_graph=True))


def metric(out):
    """A metric decides, on a loader that the user has divided."""
    whole = samples(37, 2)
    divided = DistributedSampler(whole, 2, int(os.environ.get("LOCAL_RANK", "0")), shuffle=False)
    callback = AccuracyDrivenPruningCallback(
        4,
        repair=False,
        criterion="metric",
        metric=MulticlassAccuracy(num_classes=2, average="micro"),
        majority=0,
        tolerance=0.3,
        batch_tokens=LENIENT["batch_tokens"],
        search_dataloader=DataLoader(whole, batch_size=8, sampler=divided),
    )
    fit(Stranger(), out, "metric", [callback], DDPStrategy(gradient_as_bucket_view=True))


def rewind(out):
    """Gradients of an unfinished step are pending when the round comes."""
    callback = AccuracyDrivenPruningCallback(**PLAIN, retrain="rewind", search_dataloader=loader(37, 2))
    fit(Stranger(), out, "rewind", [callback], val_check_interval=1, accumulate_grad_batches=2)


def repaired(out):
    """As `search`, and what is left is repaired by the moments of both processes."""
    pruning = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=loader(37, 2))
    fit(Stranger(), out, "repaired", [HardAttentionCallback(k=4), pruning])


def averages(out):
    """A moving average goes along in both processes."""
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=loader(37, 2))
    fit(Stranger(), out, "averages", [EMAWeightAveraging(decay=0.5), callback])


def budget(out):
    """One process has all batches of the search set, which are few and have no labels; both repair by its moments."""
    told = [{name: value for name, value in sample.items() if name != "labels"} for sample in samples(37, 2)]
    search_loader = DataLoader(told, batch_size=8)
    callback = ShrinkCallback(
        encoder_size_ratio=1.8, table_samples=16, tries=2, search_dataloader=search_loader, retrain="continue"
    )
    fit(Stranger(), out, "budget", [callback])


class Broken(Stranger):
    """Knows no answer in one of the processes, once it has been trained."""

    def forward(self, **batch):
        output = super().forward(**batch)
        if os.environ.get("LOCAL_RANK") == "1" and self.trainer.global_step:
            output.logits = output.logits * float("nan")
        return output


def broken(out):
    """What is wrong in one process is told by both."""
    try:
        fit(Broken(), out, "broken", [AccuracyDrivenPruningCallback(search_dataloader=loader(37, 2), batch_tokens=96)])
    except ValueError as error:
        torch.save({"error": str(error)}, out / f"broken-{os.environ['LOCAL_RANK']}.pt")


def fork(out, start="fork", max_epochs=2):
    """Processes that are forked hand back what they have cut."""
    callback = AccuracyDrivenPruningCallback(**LENIENT, search_dataloader=loader(37, 2))
    module = fit(follow_workers_(Stranger()), out, start, [callback], f"ddp_{start}", max_epochs)
    torch.save({"plan": module.anything.axformer_plan, "end": weights(module)}, out / f"{start}-main.pt")


def spawn(out):
    """So do those that are spawned, to which the module is sent."""
    fork(out, "spawn", 1)


def refused(out):
    """Nobody would cut the module of the main process."""
    try:
        fit(Stranger(), out, "refused", [AccuracyDrivenPruningCallback()], "ddp_fork")
    except Exception as error:
        torch.save({"error": str(error)}, out / "refused.pt")


writes = []
save_file = starting_point.save_file
starting_point.save_file = lambda tensors, path, **options: (
    writes.append(str(path)),
    save_file(tensors, path, **options),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[2:]:
        if name not in ("refused", "fork", "spawn") or "LOCAL_RANK" not in os.environ:  # of these one process is enough
            globals()[name](Path(sys.argv[1]))
    if distributed.is_initialized():  # after an error Lightning leaves it up, and its threads may outlive the process
        distributed.destroy_process_group()
