"""A metric that does not go with what is scored is refused before anything is searched."""

import pytest
import torch
from torchmetrics.classification import BinaryAUROC, MulticlassF1Score
from torchmetrics.regression import R2Score

from axformer_lightning import find_plan, quantize
from axformer_lightning.scoring import check_metric, score_logits

pytestmark = [pytest.mark.one_implementation, pytest.mark.one_family]


@pytest.mark.parametrize("search", [find_plan, quantize])
@pytest.mark.parametrize(
    ("metric", "why"),
    [(BinaryAUROC(), "scores or probabilities"), (MulticlassF1Score(2, average=None), "one element")],
)
def test_it_is_refused_without_a_trainer_too(tiny, search, metric, why):
    model, batch = tiny.model("bert", "eager", num_labels=2), tiny.batch()
    batch["labels"] = batch["labels"].clamp(max=1)
    with pytest.raises(
        ValueError, match=f"Expected a metric that takes predictions .* {type(metric).__name__}: .*{why}"
    ):
        search(model, [batch], metric=metric)


def test_it_is_tried_on_all_batches_that_were_scored_as_some_take_no_single_sample():
    scored = [score_logits(torch.tensor([one]), {"labels": torch.tensor([one + 0.5])}) for one in (1.0, 2.0)]
    check_metric(R2Score(), scored, torch.device("cpu"))
    with pytest.raises(ValueError, match="at least two samples"):
        check_metric(R2Score(), scored[:1], torch.device("cpu"))
