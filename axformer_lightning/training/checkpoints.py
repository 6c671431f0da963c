"""Lightning checkpoints of modules that have been cut."""

import os
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from reprlib import repr as short
from typing import Any, TypeVar

import lightning as L
from torch import nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import find_transformer
from axformer_lightning.basics.reading import read_fields, read_list, read_typed
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import bring_to_, check_can_become, plans_in

PLANS_KEY = "axformer_plans"

M = TypeVar("M", bound=L.LightningModule)


def apply_checkpoint_plans_(module: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Bring the transformers inside ``module`` into the shape of a Lightning checkpoint's weights.

    Call it in a LightningModule's `on_load_checkpoint(self, checkpoint)`, which runs before the weights are loaded;
    then plain `load_from_checkpoint` works for models that the callbacks have cut. A module that is cut further than
    the checkpoint gets its layers back, empty, for the weights that follow.

    Args:
        module: the LightningModule that is being loaded.
        checkpoint: as Lightning reads it; without a plan, in the state of the callbacks or beside the weights, nothing
            is changed.

    Raises:
        ValueError: if a plan does not fit; the module is then unchanged.
        TypeError: if what is given is no checkpoint.

    Example:
        >>> class Module(L.LightningModule):
        ...     def on_load_checkpoint(self, checkpoint):
        ...         apply_checkpoint_plans_(self, checkpoint)
        >>> Module().on_load_checkpoint({"state_dict": {}})  # holds no plan, so nothing is to be cut
    """
    if not isinstance(checkpoint, Mapping):
        raise TypeError(
            f"Expected a checkpoint as Lightning reads it, a dict, got {type(checkpoint).__name__}."
            " `load_from_checkpoint` takes the path of its file."
        )
    plans = {find_transformer(module, name): plan for name, plan in _plans(checkpoint).items()}
    for name, plan in _plans_beside_weights(checkpoint).items():
        transformer = find_transformer(module, name)
        if plans.setdefault(transformer, plan) != plan:
            raise ValueError(
                f"Expected one plan for the {type(transformer).__name__} in a checkpoint, got one in the state of the"
                " callbacks and another beside the weights. Use a checkpoint as Lightning wrote it."
            )
    for transformer, plan in plans.items():  # all checks before the first change
        _check(transformer, plan, set(plans) - {transformer})
    for transformer, plan in plans.items():
        bring_to_(transformer, plan)


def _check(transformer: PreTrainedModel, plan: Plan | None, others: Set[nn.Module]) -> None:
    if not others.isdisjoint(transformer.modules()):
        raise ValueError(
            f"Expected plans for separate models, got one for a {type(transformer).__name__} and one for a part of it."
            " Use a checkpoint as Lightning wrote it."
        )
    if plan is not None:
        check_can_become(transformer, plan)


def _plans_beside_weights(checkpoint: Mapping[str, Any]) -> dict[str | None, Plan | None]:
    """Return the plans that the weights hold; these alone travel where nothing but weights is saved."""
    state = checkpoint.get("state_dict", {})
    return {name or None: plan for name, plan in (plans_in(state) if isinstance(state, Mapping) else {}).items()}


def _plans(checkpoint: Mapping[str, Any]) -> dict[str | None, Plan | None]:
    """Return the plan of every transformer that the callbacks prune, None before its first round."""
    plans: dict[str | None, Plan | None] = {}
    for key, state in read_typed(checkpoint.get("callbacks", {}), dict, "`callbacks`").items():
        where = f"the {PLANS_KEY} of the callback {short(key)}"
        for data in read_list(state.get(PLANS_KEY, []), where) if isinstance(state, Mapping) else ():
            item = read_fields(data, where, {"model", "plan"})
            name = None if item["model"] is None else read_typed(item["model"], str, f"the model in {where}")
            try:
                plans[name] = None if item["plan"] is None else Plan.from_dict(item["plan"])
            except ValueError as error:
                raise ValueError(f"Cannot read the plan in {where}: {error}") from error
    return plans


def load_from_checkpoint(module_class: type[M], path: str | os.PathLike[str], **kwargs: Any) -> M:
    """Load a LightningModule from a checkpoint that was saved after its transformer was cut.

    No code from the checkpoint is run, unless ``weights_only=False`` is passed.

    Args:
        module_class: the user's class; it needs no code for plans.
        path: the checkpoint.
        kwargs: passed to ``module_class.load_from_checkpoint``.

    Returns:
        The module, cut, with the checkpoint's weights and hard attention on.

    Raises:
        ValueError: if the file is not such a checkpoint, or its plan or weights do not fit; the message names the file.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from axformer_lightning import apply_plan_
        >>> from axformer_lightning.anatomy import LayerPlan
        >>> class Module(L.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 9}
        ...         self.model = BertForSequenceClassification(BertConfig(**sizes))
        >>> module = Module()
        >>> _ = apply_plan_(module.model, Plan("bert", 1, 4, 3072, (LayerPlan("removed"),)))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     path = Path(directory, "last.ckpt")  # as a Trainer writes it
        ...     torch.save({"state_dict": module.state_dict(), "pytorch-lightning_version": L.__version__}, path)
        ...     load_from_checkpoint(Module, path).model.axformer_plan.layers[0].attention
        'removed'
    """

    def on_load_checkpoint(self: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        apply_checkpoint_plans_(self, checkpoint)
        module_class.on_load_checkpoint(self, checkpoint)

    # Lightning creates the object itself, so only a subclass of the same name can cut it in time.
    members = {"on_load_checkpoint": on_load_checkpoint, "__module__": module_class.__module__}
    reader: Any = type(module_class.__name__, (module_class,), members)
    try:
        _check_undamaged(path)
        # Explicit, as the default differs for URLs and can be changed by an environment variable.
        module = reader.load_from_checkpoint(path, **{"weights_only": True, **kwargs})
    except Exception as error:  # errors of torch and Lightning have no common class
        if isinstance(error, OSError) and error.filename:
            raise  # from the file system, with the file's name
        raise ValueError(
            f"Cannot load a {module_class.__name__} from the checkpoint {str(path)!r}: {type(error).__name__}: {error}"
        ) from error
    module.__class__ = module_class
    return module  # type: ignore[no-any-return]


def _check_undamaged(path: str | os.PathLike[str]) -> None:
    """Raise if bytes have changed since they were written: torch does not check the checksums in its files."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged!r} in it is wrong: the file has changed since it was written.")
