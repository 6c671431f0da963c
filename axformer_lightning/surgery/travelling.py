"""The plan of a cut model travels in its `state_dict`, so that weights alone say which model they are of.

A loader that knows nothing of plans refuses the entry by its name, which says what to load with.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.plan import Plan, applied_plan

KEY = "axformer-lightning: load it with load_from_checkpoint or load_pretrained of axformer_lightning"


def is_as_it_was_built(model: PreTrainedModel) -> bool:
    """Tell whether nothing is removed from a model, and no layer attends hard."""
    plan = applied_plan(model)
    return plan is None or plan.layers == anatomy_of(model).dense_layers()


def plans_in(state: Mapping[str, Any]) -> dict[str, Plan]:
    """Return the plans in a state dict, by the name of the model in the module that the state is of.

    Raises:
        ValueError: if an entry is no plan.
    """
    return {
        name.removesuffix(KEY).removesuffix("."): _read(value) for name, value in state.items() if name.endswith(KEY)
    }


def add_plan(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Add the plan of ``module`` to its state; a hook of torch."""
    assert isinstance(module, PreTrainedModel)
    plan = applied_plan(module)
    if plan is not None and not is_as_it_was_built(module):
        state[prefix + KEY] = torch.tensor(list(plan.to_json().encode()), dtype=torch.uint8)


def _read(told: Any) -> Plan:
    if not isinstance(told, Tensor) or told.dtype != torch.uint8 or told.dim() != 1:
        raise ValueError(f"Expected the entry {KEY!r} to hold a plan as bytes, got {type(told).__name__}.")
    return Plan.from_json(bytes(told.tolist()).decode())
