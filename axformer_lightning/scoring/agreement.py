"""Whether what the search scores is what the module learns."""

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from axformer_lightning.basics import untouched
from axformer_lightning.scoring.context import as_is, logged
from axformer_lightning.scoring.forward import run_forward
from axformer_lightning.scoring.logits import Loss, Scored, WithLogits
from axformer_lightning.scoring.names import ADVICE, entries_of
from axformer_lightning.scoring.steps import scored_through, step_of

logger = logging.getLogger(__name__)

ENOUGH = 16  # samples that are compared, of the first batches
ROUNDING = 1e-4  # relative, of a loss in single precision
HALF_ROUNDING = 2e-2


def check_agreement(module: nn.Module, batches: Iterable[Any], problem_type: str | None = None) -> list[Scored]:
    """Refuse a module that learns by another loss than the search would score it by; it is unchanged afterwards.

    The mean of the scores of the first batches is compared with what the module says of the same batches, in eval mode:
    the loss that `training_step` returns, or else the one that `validation_step` returns or logs, or else the one in
    the output of forward. An `axformer_step` is the module's own word, and is not compared.

    Args:
        module: what is scored.
        batches: the search set, on the module's device; no more of it is read than needed.
        problem_type: ``config.problem_type`` of the transformer, if set.

    Returns:
        What the batches that were read would score.

    Raises:
        ValueError: if the two differ, with both numbers; if nothing says whether one logit is a class or a number; or
            if a loss is not finite.
    """
    found: list[Scored] = []
    remark, is_own = None, hasattr(module, "axformer_step")
    with as_is(module):
        for batch in batches:
            scored = step_of(module, problem_type)(copy.deepcopy(batch))
            _check_finite(scored)
            found.append(scored)
            compared = scored if isinstance(scored, WithLogits) and not is_own else None
            if compared is not None and compared.mean.isfinite():  # no number where nothing has a label
                remark = _compare(module, batch, compared)
            if compared is None or sum(len(one.loss_N) for one in found) >= ENOUGH:
                break
    if remark is not None:
        logger.warning(remark)
    return found


def _compare(module: nn.Module, batch: Any, scored: WithLogits) -> str | None:
    """Refuse what differs; return what should be said where the two can be told apart, or cannot be compared."""
    name, measure = type(module).__name__, f"mean {scored.loss}"
    differs: dict[str, float] = {}
    why: list[str] = []
    for where, said in _losses(module, batch, why):
        if _is_rounding(said, scored):
            if not differs:
                return None
            other = f"{where.split()[0]}; but {_listed(differs)}"
            return (
                f"The search scores {name} by the {measure}, {float(scored.mean):.6g} on its first batches, as {other}."
            )
        differs[where] = float(said)
    if differs:
        raise ValueError(
            f"Expected the search to score {name} by the loss that it learns by. On one batch it would score a"
            f" {measure} of {float(scored.mean):.6g}, but {_listed(differs)}. {ADVICE}"
        )
    if _is_ambiguous(scored):
        raise ValueError(
            f"Expected to know what the one logit of {name} stands for, got labels that are all 0 or 1, which go with a"
            f" class (binary cross-entropy) as well as with a number (squared error). {ADVICE} Or let the module return"
            " its loss."
        )
    silent = "; ".join(["the module says no loss to compare that with", *why])
    return f"The search scores {name} by the {measure}, {float(scored.mean):.6g} on its first batches; {silent}."


def _losses(module: nn.Module, batch: Any, why: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield what the module says the loss of a batch is, and where; ``why`` takes down what could not be asked."""
    found = False
    for name in ("training_step", "validation_step"):
        step = getattr(module, name, None)
        by_hand = name == "training_step" and not getattr(module, "automatic_optimization", True)
        if step is None or by_hand or step.__qualname__.startswith("LightningModule."):
            continue  # optimizing by hand it would change the weights; Lightning's own says nothing
        with untouched(module, weights=True), logged(module) as values:
            try:
                output = step(copy.deepcopy(batch), *_indices(step))
            except Exception as error:  # it may need what only training has
                why.append(f"`{name}` raises {type(error).__name__} in a trial")
                continue
            returned = output.get("loss") if isinstance(output, Mapping) else output
            said = {f"`{name}` returns": returned} if _is_loss(returned) else _logged_losses(name, values)
        for where, value in said.items():
            found = True
            yield where, value
    if not found:
        yield from _loss_in_output(module, batch)


def _indices(step: Any) -> list[int]:
    """Return zeros for what a step takes after the batch: the numbers of batch and dataloader."""
    kinds = [parameter.kind for parameter in signature(step).parameters.values()]
    named = kinds.count(Parameter.POSITIONAL_OR_KEYWORD)
    return [0] * max(named - 1, int(Parameter.VAR_POSITIONAL in kinds))  # to `*args` Lightning gives the batch's, too


def _logged_losses(step: str, values: Mapping[str, Any]) -> dict[str, Any]:
    # A metric is logged as what it made of this batch.
    numbers = {name: value._forward_cache if isinstance(value, Metric) else value for name, value in values.items()}
    return {
        f"`{step}` logs {name!r}:": value
        for name, value in numbers.items()
        if "loss" in name.lower() and _is_loss(value)
    }


def _loss_in_output(module: nn.Module, batch: Any) -> Iterator[tuple[str, Any]]:
    part = scored_through(module)
    try:
        output, _ = run_forward(part, copy.deepcopy(batch), with_labels=True)
    except Exception:  # a forward that takes no labels
        return
    parts = list(output) if isinstance(output, tuple) and not hasattr(output, "_fields") else []
    loss = (entries_of(output) or {}).get("loss", next(iter(parts[:1] if len(parts) > 1 else []), None))
    if _is_loss(loss):
        yield f"the output of {type(part).__name__} holds", loss


def _is_loss(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point())


def _is_rounding(said: Any, scored: WithLogits) -> bool:
    logits = scored.logits[0] if isinstance(scored.logits, tuple) else scored.logits
    dtype = said.dtype if isinstance(said, Tensor) else logits.dtype
    rounding = ROUNDING if dtype in (torch.float32, torch.float64) else HALF_ROUNDING
    return any(
        math.isclose(float(said), float(mean), rel_tol=rounding, abs_tol=rounding / 100)
        for mean in (scored.mean, scored.loss_N.mean())
    )


def _is_ambiguous(scored: WithLogits) -> bool:
    labels = scored.labels
    return scored.loss is Loss.NUMBERS and bool(((labels == 0) | (labels == 1)).all())


def _check_finite(scored: Scored) -> None:
    wrong = scored.loss_N[~scored.loss_N.isfinite()]
    if len(wrong):
        raise ValueError(
            f"Expected finite losses on the search set, got {wrong[0].item()} while scoring the model before the"
            " search, on its first batches. Check its weights, its precision and the labels."
        )


def _listed(said: Mapping[str, float]) -> str:
    return ", and ".join(f"{where} {value:.6g}" for where, value in said.items())
