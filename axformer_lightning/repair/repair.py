"""From what is to be left of a model to what its parameters have to be, and a model that runs with them.

Finding a :class:`Repair` changes nothing. It is found on the model as it is, with the moments of that very model, and
serves both to run the uncut model as it would be left and to repair it once it has been cut.
"""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import Anatomy, Block, LayerPlan, anatomy_of, layers_left
from axformer_lightning.gates import closed
from axformer_lightning.repair.least_squares import DAMPING, repaired
from axformer_lightning.repair.means import place_of_mean
from axformer_lightning.repair.measuring import check_can_repair, out_projections
from axformer_lightning.repair.moments import BlockName, Moments

Solved = MutableMapping[tuple[int, str, tuple[int, ...]], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, eq=False)
class Repair:
    """What parameters of a cut model have to be, so that its blocks give best what they gave before the cut.

    Args:
        values: by the parameter's name, in the shape that the cut model has.
        columns: for each weight among them the columns of the uncut one that it stands for.
        means_lost: blocks that were removed, or left without units, whose mean output no parameter takes up.
    """

    values: Mapping[str, Tensor]
    columns: Mapping[str, list[int]]
    means_lost: tuple[BlockName, ...]


def find_repair(
    model: PreTrainedModel,
    layers: Sequence[LayerPlan],
    moments: Moments,
    *,
    damping: float = DAMPING,
    means: bool = True,
    solved: Solved | None = None,
) -> Repair:
    """Return how to repair ``model`` once it is cut to ``layers``; the model is unchanged.

    Every block that gets smaller is repaired for itself, by least squares over the inputs that it has in ``model``. A
    block without units gives its mean. The mean of a removed block goes into the parameter that
    :func:`~axformer_lightning.repair.place_of_mean` names.

    Args:
        model: of a known family, not cut to ``layers`` yet; what is cut already stays cut.
        layers: what is to be left of each layer, in indices of the original model.
        moments: of ``model`` as it is.
        damping: see :func:`~axformer_lightning.repair.repaired`.
        means: whether the means of removed blocks are added somewhere, or left out as without a repair. The mean is the
            constant that comes nearest to all tokens, which need not be the best one for the task: try both.
        solved: what was found before for the same model, moments and damping, which is added to: a block that is cut
            alike in many plans is then solved once. It grows by a weight per block and cut.

    Raises:
        ValueError: if ``layers`` keeps more than ``model`` has, has not one entry per layer, moments are missing or of
            another number of inputs, or out-projections share a parameter.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from axformer_lightning.repair import measure_moments
        >>> sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
        >>> model = BertForSequenceClassification(BertConfig(**sizes)).eval()
        >>> batch = {"input_ids": torch.tensor([[3, 5, 7, 1], [2, 4, 6, 8]]), "labels": torch.tensor([0, 1])}
        >>> moments = measure_moments(model, model, [batch])
        >>> repair = find_repair(model, [LayerPlan(neurons_removed=((2, 6),))], moments)
        >>> {name: tuple(value.shape) for name, value in repair.values.items()}
        {'bert.encoder.layer.0.output.dense.weight': (4, 2), 'bert.encoder.layer.0.output.dense.bias': (4,)}
    """
    anatomy = anatomy_of(model)
    check_can_repair(model)
    if len(layers) != anatomy.num_layers:
        raise ValueError(f"Expected one LayerPlan for each of {anatomy.num_layers} layers, got {len(layers)}.")
    values, columns, lost = dict[str, Tensor](), dict[str, list[int]](), list[BlockName]()
    with torch.inference_mode(False), torch.no_grad():
        changed = list(_changed(model, anatomy, layers))
        for i, block, linear, kept in changed:
            if kept is None:
                continue
            key = (i, block.kind, tuple(kept))
            found = None if solved is None else solved.get(key)
            if found is None:
                found = repaired(linear.weight, linear.bias, moments.of(i, block.kind), kept, damping)
            if solved is not None:
                solved[key] = found
            name = anatomy.name(i, block.out_projection)
            values[f"{name}.weight"], columns[f"{name}.weight"] = found[0], kept
            if found[1] is not None:
                values[f"{name}.bias"] = found[1]
            elif not kept:
                lost.append((i, block.kind))
        for i, block, linear, kept in changed:  # last, as a mean may go into a bias that was repaired
            if kept is None and not (means and _add_mean(values, model, anatomy, layers, moments, i, block, linear)):
                lost.append((i, block.kind))
    return Repair(values, columns, tuple(sorted(lost)))


def without_repair(model: PreTrainedModel, layers: Sequence[LayerPlan]) -> Repair:
    """Return what a cut of ``model`` to ``layers`` leaves by itself, in the form of a repair that changes nothing.

    Args:
        model: as of :func:`find_repair`.
        layers: as of :func:`find_repair`.

    Raises:
        ValueError: if ``layers`` keeps more than ``model`` has.
    """
    anatomy, values, columns = anatomy_of(model), dict[str, Tensor](), dict[str, list[int]]()
    with torch.inference_mode(False), torch.no_grad():
        for i, block, linear, kept in _changed(model, anatomy, layers):
            if kept is not None:
                name = f"{anatomy.name(i, block.out_projection)}.weight"
                values[name], columns[name] = linear.weight[:, kept], kept
    return Repair(values, columns, ())


def apply_repair_(model: PreTrainedModel, repair: Repair) -> None:
    """Repair a model that has been cut to the layers that ``repair`` was found for, in place.

    The parameters stay the objects that they are, so optimizers, `requires_grad` and graphs know nothing of it.

    Raises:
        ValueError: if the model is not cut that way. It is then unchanged.
    """
    parameters = dict(model.named_parameters())
    for name, value in repair.values.items():
        if name not in parameters or parameters[name].shape != value.shape:
            got = tuple(parameters[name].shape) if name in parameters else "none"
            raise ValueError(
                f"Expected a parameter {name!r} of shape {tuple(value.shape)}, got {got}. Cut the model to the layers"
                " that the repair was found for, then repair it."
            )
    with torch.inference_mode(False), torch.no_grad():
        for name, value in repair.values.items():
            parameters[name].copy_(value)
    torch.clear_autocast_cache()  # which knows parameters as objects, not by their values


@contextmanager
def repaired_as(
    model: PreTrainedModel,
    layers: Sequence[LayerPlan],
    moments: Moments,
    *,
    damping: float = DAMPING,
    means: bool = True,
    solved: Solved | None = None,
) -> Iterator[Repair]:
    """Run ``model`` as if it were cut to ``layers`` and repaired; afterwards it is as before, to the bit.

    As :func:`~axformer_lightning.gates.closed`, but other parameters stand where repaired ones would: the weight of an
    out-projection has zeros in the columns of what is gone. The old ones are put back as the objects that they are.

    Args:
        model: as of :func:`find_repair`.
        layers: as of :func:`find_repair`; hard attention in it is not switched on.
        moments: as of :func:`find_repair`.
        damping: as of :func:`find_repair`.
        means: as of :func:`find_repair`.
        solved: as of :func:`find_repair`.

    Yields:
        The repair.

    Raises:
        ValueError: as :func:`find_repair`.
    """
    repair = find_repair(model, layers, moments, damping=damping, means=means, solved=solved)
    with repaired_weights(model, repair), closed(model, layers):
        yield repair


@contextmanager
def repaired_weights(model: PreTrainedModel, repair: Repair) -> Iterator[None]:
    """Run an uncut ``model`` with repaired parameters: the columns of what is gone are zero.

    Only with removed blocks closed as well does it run as if it were cut, see :func:`repaired_as`. Afterwards the old
    parameters are there again, as the objects that they are.
    """
    with ExitStack() as undo:
        for name, value in repair.values.items():
            path, _, own = name.rpartition(".")
            module = model.get_submodule(path)
            old: nn.Parameter = getattr(module, own)
            undo.callback(setattr, module, own, old)
            setattr(module, own, _stand_in(old, value, repair.columns.get(name)))
        yield


def _stand_in(old: nn.Parameter, value: Tensor, columns: list[int] | None) -> nn.Parameter:
    with torch.inference_mode(False), torch.no_grad():
        if columns is None:
            new = value.to(old)
        else:
            new = torch.zeros_like(old)
            new[:, columns] = value.to(old)
        return nn.Parameter(new, requires_grad=old.requires_grad)


def _changed(
    model: PreTrainedModel, anatomy: Anatomy, layers: Sequence[LayerPlan]
) -> Iterator[tuple[int, Block, nn.Linear, list[int] | None]]:
    """Yield each block that ``layers`` cuts, its out-projection, and which columns stay, None where the block goes."""
    projections = out_projections(model)
    for i, (now, wanted) in enumerate(zip(layers_left(model), layers, strict=True)):
        for block in anatomy.blocks:
            had, left = block.left(now), block.left(wanted)
            if block.keeps_more(wanted, now):
                raise ValueError(
                    f"Expected layers that keep no more than the model has, but layers[{i}] keeps more of its"
                    f" {block.kind} block. Give what is to be left of this model."
                )
            if had is None or had == left:
                continue
            yield i, block, projections[i, block.kind], None if left is None else block.features(left, had)


def _add_mean(
    values: dict[str, Tensor],
    model: PreTrainedModel,
    anatomy: Anatomy,
    layers: Sequence[LayerPlan],
    moments: Moments,
    i: int,
    block: Block,
    linear: nn.Linear,
) -> bool:
    """Add the mean of a removed block where it belongs; tell whether there is such a place."""
    name = place_of_mean(model, anatomy, layers, moments.applications, i, block.kind)
    if name is None:
        return False
    old = model.get_parameter(name)
    mean_O = moments.of(i, block.kind).mean_output(linear.weight, linear.bias)
    values[name] = (values.get(name, old).to(mean_O) + mean_O).to(old)
    return True
