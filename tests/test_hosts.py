"""The private names of other packages that this one relies on: each still exists.

A release of a host that renames one fails here, by name, and not in a user's run.
"""

import inspect

import pytest
import torch._dynamo.eval_frame
import transformers
from lightning.pytorch import LightningModule, Trainer, callbacks
from lightning.pytorch.core.hooks import DataHooks, ModelHooks
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import multiprocessing
from transformers import BertConfig, BertModel
from transformers.models.bert import modeling_bert


def source(thing):
    return inspect.getsource(thing)


# The name, the room that relies on it and for what, and whether it is there.
PRIVATE = {
    "ModelCheckpoint._save_monitor_checkpoint": (
        "callbacks/monitors.py: no monitored checkpoint pairs cut weights with the dense model's metric",
        lambda: callable(callbacks.ModelCheckpoint._save_monitor_checkpoint),
    ),
    "LightningModule._on_before_batch_transfer": (
        "callbacks/round.py: search batches are prepared as an evaluation loop prepares them",
        lambda: callable(LightningModule._on_before_batch_transfer),
    ),
    "WeightAveraging._average_model": (
        "training/averages.py: averages of the weights follow a cut",
        lambda: "self._average_model" in source(callbacks.WeightAveraging),
    ),
    "StochasticWeightAveraging._average_model": (
        "training/averages.py: likewise",
        lambda: "self._average_model" in source(callbacks.StochasticWeightAveraging),
    ),
    "WeightAveraging._copy_average_to_current": (
        "runs/retraining.py: a fit that is resumed after its last epoch ends with the average, too",
        lambda: callable(callbacks.WeightAveraging._copy_average_to_current),
    ),
    "DDPStrategy._pl_static_graph_delay_done": (
        "training/processes.py: the first step of a static graph is repeated after a cut",
        lambda: "_pl_static_graph_delay_done" in source(DDPStrategy),
    ),
    "_MultiProcessingLauncher": (
        "training/processes.py: a fit in spawned processes is recognized",
        lambda: inspect.isclass(multiprocessing._MultiProcessingLauncher),
    ),
    "DataHooks.setup, ModelHooks.configure_model": (
        "callbacks/checks.py: a module that makes its model late is recognized",
        lambda: (
            (DataHooks.setup.__qualname__, ModelHooks.configure_model.__qualname__)
            == ("DataHooks.setup", "ModelHooks.configure_model")
        ),
    ),
    "Trainer.num_val_batches": (
        "callbacks/round.py: limits of validation batches hold for the search",
        lambda: isinstance(inspect.getattr_static(Trainer, "num_val_batches"), property),
    ),
    "config._attn_implementation_internal": (
        "hard_attention.py, first_token/skipping.py: one layer attends by a function of ours",
        lambda: hasattr(BertConfig(), "_attn_implementation_internal"),
    ),
    "eager_attention_forward": (
        "hard_attention.py, first_token/skipping.py: soft attention where there are at most k keys",
        lambda: callable(modeling_bert.eager_attention_forward),
    ),
    "attention.config": (
        "hard_attention.py: attention modules look their function up in a config of their own",
        lambda: BertModel(BertConfig(hidden_size=12, num_hidden_layers=1)).encoder.layer[0].attention.self.config,
    ),
    "transformers.masking_utils": (
        "hard_attention.py: masks are made by the model's own implementation",
        lambda: callable(transformers.masking_utils.create_bidirectional_mask),
    ),
    "RichProgressBar._get_train_description": (
        "runs/epochs.py: epochs are counted from 1",
        lambda: "_get_train_description" in source(callbacks.RichProgressBar.on_train_epoch_start),
    ),
    "OptimizedModule._orig_mod": (
        "anatomy/models.py: a compiled model is unwrapped",
        lambda: "_orig_mod" in source(torch._dynamo.eval_frame.OptimizedModule),
    ),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_of_a_host_is_still_there(name):
    used_by, is_there = PRIVATE[name]
    assert is_there(), f"{name} is gone, and with it: {used_by}"
