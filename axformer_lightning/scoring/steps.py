"""Steps: from a batch to the loss of every sample in it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.scoring.forward import run_forward
from axformer_lightning.scoring.logits import Scored, score_logits
from axformer_lightning.scoring.names import ADVICE, INTO_BATCHES, LABELS, SPAN, entries_of

Step = Callable[[Any], Scored]


def step_of(module: nn.Module, problem_type: str | None = None) -> Step:
    """Return the function that scores the batches of ``module`` by what the module itself computes.

    That is its `axformer_step(batch)` if it has one, else the logits of its forward with the batch's labels, else those
    of the Hugging Face model in it.

    Args:
        module: a Hugging Face model, or a LightningModule around one.
        problem_type: ``config.problem_type`` of the Hugging Face model, if set.

    Raises:
        TypeError: if the module has neither a step nor a forward, nor holds one model that gives logits.
    """
    own = getattr(module, "axformer_step", None)
    if own is not None:
        nonnegative = losses_are_nonnegative(module)
        return lambda batch: _checked(own(batch), nonnegative)
    part = scored_through(module)
    return lambda batch: _score_forward(part, batch, problem_type)


def scored_through(module: nn.Module) -> nn.Module:
    """Return whose forward gives the logits: ``module``, or the one Hugging Face model with a head in it.

    Raises:
        TypeError: if ``module`` defines no forward, and does not hold exactly one such model.
    """
    if _defines_forward(module):
        return module
    models = {name: part for name, part in module.named_modules() if isinstance(part, PreTrainedModel)}
    outermost = [part for name, part in models.items() if not any(name.startswith(f"{other}.") for other in models)]
    if len(outermost) != 1 or outermost[0].base_model is outermost[0]:
        raise TypeError(
            f"Expected {type(module).__name__} to define `forward`, or to hold one Hugging Face model with a head, got"
            f" {[type(part).__name__ for part in outermost]}. Define it, or: {ADVICE}"
        )
    return outermost[0]


def _defines_forward(module: nn.Module) -> bool:
    """Tell whether ``module`` has a forward of its own."""
    forward = type(module).forward
    inherited = getattr(forward, "__qualname__", "").split(".")[0] in (
        "LightningModule",
        "Module",
        "_forward_unimplemented",
    )
    return not inherited


def losses_are_nonnegative(module: nn.Module) -> bool:
    """Tell whether no loss of ``module`` can be below zero, so that a hopeless candidate may be stopped early.

    The losses of :func:`~axformer_lightning.scoring.score_logits` cannot; a module with an `axformer_step` declares it
    with ``axformer_losses_nonnegative = True``.
    """
    return not hasattr(module, "axformer_step") or bool(getattr(module, "axformer_losses_nonnegative", False))


def _score_forward(module: nn.Module, batch: Any, problem_type: str | None) -> Scored:
    try:
        output, entries = run_forward(module, batch)
    except Exception as error:
        if _is_sample(batch):  # said only where it fails, as a forward of the user's own may take what it likes
            raise ValueError(
                f"Expected batches in the search set, got a single sample, {_described(batch)}. {INTO_BATCHES}"
            ) from error
        raise
    is_span = all(entries.get(name) is not None for name in SPAN)
    logits = logits_in(output, module, is_span)
    return score_logits(logits, entries, problem_type)


def logits_in(output: Any, module: nn.Module, is_span: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Return the logits, or the start and end logits, in the output of a forward.

    Raises:
        TypeError: if there are none.
    """
    named = entries_of(output) or {}
    if "logits" in named:
        return named["logits"]  # type: ignore[no-any-return]
    if "start_logits" in named and "end_logits" in named:
        return named["start_logits"], named["end_logits"]
    parts = output if isinstance(output, tuple | list) else [] if isinstance(output, Mapping) else [output]
    parts = [part for part in parts if part is not None and not _is_mean(part)]
    if all(isinstance(part, Tensor) for part in parts):
        if len(parts) == 1:
            return parts[0]  # type: ignore[no-any-return]
        if len(parts) == 2 and is_span:
            return parts[0], parts[1]
    raise TypeError(
        f"Expected the output of {type(module).__name__} to be logits or to hold `logits`, got {_described(output)}; a"
        f" mean loss alone gives no per-sample losses. {ADVICE}"
    )


def _is_sample(batch: Any) -> bool:
    """Tell whether it looks like what a dataset holds: one row of tokens, or one label."""
    entries = entries_of(batch)
    if entries is None:
        return isinstance(batch, tuple | list) and len(batch) > 1 and _num_dims(batch[-1]) == 0
    labels = [entries[name] for name in (*LABELS, *SPAN) if entries.get(name) is not None]
    return _num_dims(entries.get("input_ids")) == 1 or any(_num_dims(label) == 0 for label in labels)


def _num_dims(value: Any) -> int | None:
    """Return how deeply numbers are nested, in a tensor or in lists; None for anything else."""
    if isinstance(value, list) and value:
        inner = _num_dims(value[0])
        return None if inner is None else inner + 1
    if isinstance(value, Tensor):
        return value.dim()
    return 0 if isinstance(value, int | float) else None


def _is_mean(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dim() == 0


def _described(output: Any) -> str:
    named = entries_of(output)
    if named is not None:
        return f"{type(output).__name__}{list(named)}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {[_described(part) for part in output]}"
    return f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__


def _checked(result: Any, nonnegative: bool) -> Scored:
    if not isinstance(result, tuple | list) or len(result) != 3 or not isinstance(result[0], Tensor):
        raise TypeError(
            "Expected `axformer_step` to return the loss of each sample, a tensor of shape (N,), predictions and"
            f" targets, got {_described(result)}."
        )
    scored = result if isinstance(result, Scored) else Scored(*result)
    if scored.loss_N.dim() != 1:
        raise ValueError(
            f"Expected `axformer_step` to return the loss of each sample, shape (N,), got shape"
            f" {tuple(scored.loss_N.shape)}. Use `reduction='none'`."
        )
    if nonnegative and (scored.loss_N < 0).any():
        raise ValueError(
            f"Expected losses of at least 0, as `axformer_losses_nonnegative = True` says, got"
            f" {scored.loss_N.min().item()} from `axformer_step`. Remove that attribute."
        )
    return scored
