"""Calling the forward of a user's module with the entries of a batch that it takes."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.scoring.names import ADVICE, NOT_INPUTS, SAMPLE_IDS, entries_of


def run_forward(module: nn.Module, batch: Any, *, with_labels: bool = False) -> tuple[Any, Mapping[str, Any]]:
    """Call ``module`` with the parts of ``batch`` that its forward takes.

    | batch | forward | is called with |
    |---|---|---|
    | dict, NamedTuple, dataclass | names entries | the entries that it names; labels only if it names them |
    | | has `**kwargs` | every entry except labels |
    | | has one parameter, not named after an entry | the batch |
    | (inputs..., labels) | takes that many | the inputs |
    | | takes one | the batch |
    | (dict, labels) | | as for the dict |

    Args:
        module: what is called.
        batch: what is taken apart.
        with_labels: whether it gets the labels wherever it takes them, so that it may return a loss.

    Returns:
        What forward returns, and the entries of the batch by name, labels included.

    Raises:
        TypeError: if the batch is none of these.
        ValueError: if forward needs something that the batch does not hold.

    Example:
        >>> import torch
        >>> output, entries = run_forward(nn.Linear(2, 3), (torch.ones(1, 2), torch.tensor([2])))
        >>> output.shape, entries
        (torch.Size([1, 3]), {'labels': tensor([2])})
    """
    entries = entries_of(batch)
    if entries is not None:
        return _call_by_name(module, entries, batch, with_labels), entries
    if not isinstance(batch, tuple | list) or len(batch) < 2 or not isinstance(batch[-1], Tensor):
        got = [type(part).__name__ for part in batch] if isinstance(batch, tuple | list) else type(batch).__name__
        raise TypeError(
            "Expected a batch to be a dict, a NamedTuple, a dataclass, or a tuple that ends with the labels, a tensor;"
            f" got {got}. {ADVICE}"
        )
    *inputs, labels = batch
    named = entries_of(inputs[0]) if len(inputs) == 1 else None
    if named is not None:
        others = {name: value for name, value in named.items() if name not in NOT_INPUTS or name == SAMPLE_IDS}
        given = {**named, "labels": labels} if with_labels else named
        return _call_by_name(module, given, inputs[0], with_labels), {**others, "labels": labels}
    return _call_by_position(module, inputs, batch), {"labels": labels}


def _call_by_name(module: nn.Module, entries: Mapping[str, Any], batch: Any, with_labels: bool) -> Any:
    if "head_mask" in entries:
        raise ValueError(
            "Expected a batch without `head_mask`: transformers 5 ignores it and runs all heads. Remove heads with"
            " `apply_plan_`."
        )
    parameters = inspect.signature(module.forward).parameters.values()
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    required = [name for name, parameter in named.items() if parameter.default is parameter.empty]
    if len(required) == 1 and not any(name in named for name in entries if name not in NOT_INPUTS):
        return module(batch)
    # With labels a Hugging Face model would also compute a loss, which scores do not need.
    named_labels = with_labels or not isinstance(module, PreTrainedModel)
    accepted = {
        name: value
        for name, value in entries.items()
        if (name in named and (named_labels or name not in NOT_INPUTS))
        or (open_ended and (with_labels or name not in NOT_INPUTS))
    }
    missing = [name for name in required if name not in accepted]
    if missing or not accepted:
        raise ValueError(
            f"Expected every batch of the search set to hold what `{type(module).__name__}.forward` takes,"
            f" {missing or list(named)}, got {sorted(map(str, entries))}. Name its parameters after the entries, or:"
            f" {ADVICE}"
        )
    return module(**accepted)


def _call_by_position(module: nn.Module, inputs: Sequence[Any], batch: Any) -> Any:
    signature = inspect.signature(module.forward)
    if _takes(signature, inputs):
        return module(*inputs)
    if _takes(signature, [batch]):
        return module(batch)
    raise ValueError(
        f"Expected `{type(module).__name__}.forward` to take the {len(inputs)} inputs that come before the labels in a"
        f" batch, or the whole batch, got forward{signature}. {ADVICE}"
    )


def _takes(signature: inspect.Signature, values: Sequence[Any]) -> bool:
    try:
        signature.bind(*values)
    except TypeError:
        return False
    return True
