"""The weights at the start of a fit, to rewind to after a cut."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from axformer_lightning.anatomy import LayerPlan
from axformer_lightning.plan import Plan, applied_plan, plan_of
from axformer_lightning.surgery import keep, kept_positions
from axformer_lightning.training.optimizers import NAMES

PLAN = "plan"  # the entry of a checkpoint that says what was left of the layers
TOKEN = "fit"  # the entry of the file's metadata that tells it from those of other fits


@dataclass(frozen=True)
class StartingPoint:
    """The state at the start of a fit, to rewind to: the weights on disk, the rest in memory.

    Args:
        path: safetensors file with every parameter and buffer.
        layers: what was left of each layer of the transformer at that time.
        groups: settings of the optimizers' parameter groups.
        schedulers: states of the learning rate schedulers.
        token: stands in the file, which is refused without it.
        repaired: whether the weights at that time were those of a repaired model.
    """

    path: Path
    layers: tuple[LayerPlan, ...]
    groups: list[list[dict[str, Any]]]
    schedulers: list[dict[str, Any]]
    token: str
    repaired: bool = False

    @classmethod
    def save(
        cls,
        path: str | os.PathLike[str],
        module: nn.Module,
        layers: tuple[LayerPlan, ...],
        optimizers: Sequence[Optimizer] = (),
        schedulers: Sequence[Any] = (),
        *,
        token: str | None = None,
        writes: bool = True,
        repaired: bool = False,
    ) -> "StartingPoint":
        """Write the weights of ``module`` to ``path`` and keep the rest.

        Args:
            path: a file of its own: two fits must not share it.
            module: what is saved.
            layers: what is left of each layer of the transformer.
            optimizers: whose groups are kept.
            schedulers: whose states are kept.
            token: tells this file from those of other fits; drawn if None. Several processes have to be given one.
            writes: of several processes one does.
            repaired: whether the transformer has been repaired before.

        Raises:
            OSError: if the file cannot be written.
        """
        groups = [[_settings(group) for group in optimizer.param_groups] for optimizer in optimizers]
        states = [copy.deepcopy(scheduler.state_dict()) for scheduler in schedulers]
        start = cls(Path(path), layers, groups, states, uuid4().hex if token is None else token, repaired)
        if writes:
            start._write(_tensors(module))
        return start

    def kept_in_checkpoint(self, transformer: PreTrainedModel) -> dict[str, Any]:
        """Return all that :meth:`from_checkpoint` needs, as plain types and tensors.

        Args:
            transformer: whose layers are meant.
        """
        plan = replace(plan_of(transformer), layers=self.layers, decisions=(), repaired=self.repaired)
        return {"weights": self._read(), PLAN: plan.to_dict(), "groups": self.groups, "schedulers": self.schedulers}

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike[str], kept: Mapping[str, Any], *, token: str, writes: bool = True
    ) -> "StartingPoint":
        """Return the starting point of the fit that is resumed.

        Args:
            path: as of :meth:`save`.
            kept: what :meth:`kept_in_checkpoint` returned there.
            token: as of :meth:`save`.
            writes: as of :meth:`save`.

        Raises:
            OSError: if the file cannot be written.
        """
        plan = Plan.from_dict(kept[PLAN])
        start = cls(Path(path), plan.layers, kept["groups"], kept["schedulers"], token, plan.repaired)
        if writes:
            start._write(kept["weights"])
        return start

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        # Cloned: safetensors refuses tensors that share memory, as tied weights do.
        own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(own, self.path, metadata={TOKEN: self.token})
        except (OSError, SafetensorError) as error:
            raise cannot_write(self.path, error) from error

    def rewind_(
        self,
        module: nn.Module,
        transformer: PreTrainedModel,
        optimizers: Sequence[Optimizer] = (),
        schedulers: Sequence[Any] = (),
        copies: Iterable[PreTrainedModel] = (),
    ) -> None:
        """Restore the weights as :meth:`rewind_weights_` does; optimizers and schedulers start from scratch.

        Source: the authors' final step (`--from_specialized`), arXiv 2010.03688, section 3.4.

        Args:
            module: holds ``transformer``; cut since this point was saved.
            transformer: the model that was cut.
            optimizers: lose their state, and get the former settings of their groups back.
            schedulers: get their former state back.
            copies: of ``transformer`` or its base model, cut like it; those inside ``module`` get their former weights
                back, too.
        """
        self.rewind_weights_(module, transformer, copies=copies)
        for optimizer, groups in zip(optimizers, self.groups, strict=True):
            optimizer.state.clear()
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update(copy.deepcopy(settings))
        for scheduler, state in zip(schedulers, self.schedulers, strict=True):
            scheduler.load_state_dict(copy.deepcopy(state))

    def rewind_weights_(
        self,
        module: nn.Module,
        transformer: PreTrainedModel,
        name: str = "",
        copies: Iterable[PreTrainedModel] = (),
    ) -> None:
        """Restore the weights of a module that has been cut since, or of a copy of it, or of its part ``name``.

        Repairs since then go with the weights they were made for, and the plans of the models say so.
        """
        start = self._read()
        start = {key.removeprefix(name and f"{name}."): value for key, value in start.items()}
        now, same = applied_plan(transformer), {transformer, *copies}
        layers = self.layers if now is None else now.layers
        kept = {
            f"{prefix}{prefix and '.'}{path}": where
            for prefix, child in module.named_modules()
            if isinstance(child, PreTrainedModel) and child in same
            for path, where in kept_positions(child, self.layers, layers).items()
        }
        with torch.inference_mode(False), torch.no_grad():
            for path, value in _tensors(module).items():
                value.copy_(keep(start[path], kept.get(path) or {}))
        if now is not None:
            for model in same:
                model.axformer_plan = replace(now, repaired=self.repaired)  # type: ignore[assignment]

    def _read(self) -> dict[str, Tensor]:
        with safe_open(self.path, "pt") as file:
            if (file.metadata() or {}).get(TOKEN) != self.token:
                raise ValueError(
                    f"Expected the weights in {os.fspath(self.path)!r} that this fit began with, got those of another."
                    " Give each fit a directory of its own."
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def cannot_write(path: str | os.PathLike[str], error: Exception) -> OSError:
    """Return the error that says what to do where the weights to rewind to cannot be written."""
    return OSError(
        f"Expected to write the weights that retraining rewinds to, got {error} for {os.fspath(path)!r}. Pass"
        " `default_root_dir=` of a directory that can be written, or `retrain='continue'`."
    )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({name: value for name, value in group.items() if name not in ("params", NAMES)})
