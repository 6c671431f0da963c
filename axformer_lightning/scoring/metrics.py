"""Whether a metric goes with what is scored."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import Metric

from axformer_lightning.scoring.logits import Scored


def check_metric(metric: Metric | None, found: Iterable[Scored], device: torch.device) -> None:
    """Refuse a metric that cannot take what batches were scored as; a copy of it is tried.

    Args:
        metric: None is never refused.
        found: the scores of some batches; those without a label do not count.
        device: of the model.

    Raises:
        ValueError: naming the metric and what it was given.
    """
    counted = [scored for scored in found if len(scored.loss_N)]
    if metric is None or not counted:
        return
    scored, trial = counted[0], copy.deepcopy(metric).to(device)
    trial.reset()
    trial.sync_on_compute = trial._to_sync = False  # another process may have no batch to compute anything from
    preds = scored.preds
    try:
        for one in counted:
            trial.update(one.preds, one.target)
        float(trial.compute())
        # Metrics with thresholds go by how sure a prediction is; of classes they would make something, but not that.
        wanted = hasattr(trial, "thresholds") and isinstance(preds, Tensor) and not preds.is_floating_point()
        why = "it goes by scores or probabilities, not by predicted classes" if wanted else None
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why is not None:
        kinds = [f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in scored]
        raise ValueError(
            f"Expected a metric that takes predictions ({kinds[1]}) and targets ({kinds[2]}), got"
            f" {type(metric).__name__}: {why}. Pass another metric, or return from `axformer_step` what it takes."
        )
