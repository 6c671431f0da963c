"""Adding up moments while a module scores its batches.

Shape suffixes: ``B`` batch, ``T`` tokens, ``N`` real tokens, ``C`` inputs of an out-projection, ``M`` those and a one.
"""

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of, layer_modules, layers_left
from axformer_lightning.repair.moments import BlockMoments, BlockName, Moments
from axformer_lightning.replay import ALONE, Ranks, scoring
from axformer_lightning.scoring import step_of, to_device

CHUNK = 1024  # tokens turned into float64 at once
PANEL = 256  # columns of a product; only panels on and above the diagonal are computed
WITHOUT_REPAIR = "a search without repair (`find_plan`, or `AccuracyDrivenPruningCallback(repair=False)`)"


def measure_moments(
    module: nn.Module,
    transformer: PreTrainedModel,
    batches: Iterable[Any],
    *,
    blocks: Collection[BlockName] | None = None,
    ranks: Ranks = ALONE,
) -> Moments:
    """Return the second moments of what out-projections read while ``module`` scores ``batches``.

    Only tokens count that the attention mask of the encoder's call lets through, all where it is given none. Of a layer
    that is applied several times every application counts. Sums are in float64, whatever the model's precision, on the
    model's device, or the CPU where the device has no float64; of several processes they are added in the order of the
    ranks, so all hold the same bits, which differ from those of one process by rounding. The sums of a block take
    ``8 (C + 1)^2`` bytes (of all blocks of a MiniLM of 6 layers 121 MB, of an MPNet of 12 0.96 GB), and adding to them
    ``16 CHUNK C`` more; with ``blocks`` they can be had in groups, for a pass over the batches each.

    Args:
        module: what is scored: ``transformer`` itself, or the LightningModule around it.
        transformer: whose blocks are measured, cut already or not.
        batches: the search set, in batches that ``module`` takes (see
            :func:`~axformer_lightning.scoring.search_batches`); of several processes the part of this one.
        blocks: those to measure, by default all that are left.
        ranks: the processes that share the search set; all have to call this.

    Raises:
        ValueError: if there are no tokens, or no more than a block has inputs, an input is not finite, a block asked
            for is not there, its out-projection is no plain linear layer, or an attention mask is not two-dimensional.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}
        >>> model, ids = BertForSequenceClassification(BertConfig(**sizes)), torch.tensor([[3, 5, 7, 0], [2, 4, 6, 8]])
        >>> batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([0, 1])}
        >>> moments = measure_moments(model, model, [batch])
        >>> moments.of(0, "feed_forward").tokens, moments.of(0, "feed_forward").columns
        (7, 6)
    """
    projections = out_projections(transformer, blocks)
    step = step_of(module, getattr(transformer.config, "problem_type", None))
    with ExitStack() as during:
        during.enter_context(torch.inference_mode(False))  # switches gradients on, so it comes first
        during.enter_context(scoring(module, transformer))
        during.enter_context(torch.autocast(transformer.device.type, enabled=False))  # of a fit in mixed precision
        during.enter_context(torch.random.fork_rng(_cuda(transformer.device)))
        sums = during.enter_context(_adding_up(transformer, projections))
        for batch in batches:
            step(to_device(batch, transformer.device))
        for name in projections:
            sums.blocks[name] = ranks.total(_whole(sums.blocks[name]))
            _check(sums.blocks[name], name, projections[name])
    calls = ranks.gather([float(count) for count in (sums.model_calls, *sums.layer_calls)])
    model_calls, *layer_calls = (sum(counts) for counts in zip(*calls, strict=True))
    applications = tuple(round(count / max(1.0, model_calls)) for count in layer_calls)
    return Moments({name: BlockMoments(sums.blocks[name]) for name in projections}, applications)


def out_projections(
    transformer: PreTrainedModel, blocks: Collection[BlockName] | None = None
) -> dict[BlockName, nn.Linear]:
    """Return the out-projections of the blocks that are left, from the first layer to the last.

    Args:
        transformer: whose blocks.
        blocks: those wanted, by default all.

    Raises:
        ValueError: if one of ``blocks`` is not there, or an out-projection is no plain linear layer.
    """
    anatomy, found = anatomy_of(transformer), dict[BlockName, nn.Linear]()
    for i, layer in enumerate(layers_left(transformer)):
        for block in anatomy.blocks:
            if block.left(layer) is None or (blocks is not None and (i, block.kind) not in blocks):
                continue
            name = anatomy.name(i, block.out_projection)
            linear = transformer.get_submodule(name)
            if type(linear) is not nn.Linear:
                raise ValueError(
                    f"Expected a plain torch.nn.Linear at {name!r}, got {type(linear).__module__}."
                    f"{type(linear).__name__}. Undo what wraps it first (PEFT: `model = model.merge_and_unload()`)."
                )
            found[i, block.kind] = linear
    if missing := sorted(set(blocks or ()) - set(found)):
        raise ValueError(f"Expected blocks that the model has, got {missing}, which it has not. Leave them out.")
    return found


def check_can_repair(transformer: PreTrainedModel) -> None:
    """Refuse a model of which two out-projections, or one and another part, share a parameter that a repair sets.

    Args:
        transformer: cut already or not.

    Raises:
        ValueError: naming the two; or as :func:`out_projections`.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=4))
        >>> check_can_repair(model)
        >>> first, second = (layer.output.dense for layer in model.encoder.layer)
        >>> second.bias = first.bias
        >>> check_can_repair(model)
        Traceback (most recent call last):
        ValueError: Expected a parameter of its own at 'encoder.layer.1.output.dense.bias', which a repair sets, but ...
    """
    ours = {parameter for linear in out_projections(transformer).values() for parameter in linear.parameters()}
    names: dict[nn.Parameter, str] = {}
    for name, parameter in transformer.named_parameters(remove_duplicate=False):
        other = names.setdefault(parameter, name)
        if other != name and parameter in ours:
            raise ValueError(
                f"Expected a parameter of its own at {name!r}, which a repair sets, but the model shares it with"
                f" {other!r}. Untie them; {WITHOUT_REPAIR} does with it."
            )


class _Sums:
    """What is added up; of each block only the panels on and above the diagonal."""

    def __init__(self, projections: Mapping[BlockName, nn.Linear], num_layers: int, device: torch.device) -> None:
        self.blocks = {
            name: torch.zeros((linear.in_features + 1,) * 2, dtype=torch.float64, device=device)
            for name, linear in projections.items()
        }
        self.mask_BT: Tensor | None = None  # of the call that runs
        self.model_calls = 0
        self.layer_calls = [0] * num_layers

    def add(self, name: BlockName, linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the real tokens of what an out-projection has read."""
        x_BTC, mask_BT = args[0].detach(), self.mask_BT
        if mask_BT is not None and x_BTC.dim() == 3:
            x_NC = x_BTC[mask_BT[:, : x_BTC.shape[1]].to(x_BTC.device) != 0]  # the first-token rule leaves one
        else:
            x_NC = x_BTC.flatten(0, -2)
        sums_MM = self.blocks[name]
        for chunk_NC in x_NC.split(CHUNK):
            chunk = chunk_NC.to(sums_MM)
            x_NM = torch.cat([chunk, chunk.new_ones(len(chunk), 1)], dim=1)
            for start in range(0, len(sums_MM), PANEL):
                sums_MM[start : start + PANEL, start:].addmm_(x_NM[:, start : start + PANEL].T, x_NM[:, start:])

    def enter_model(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take note of a call and its mask."""
        self.model_calls += 1
        names = list(inspect.signature(model.forward).parameters)
        mask: Any = {**dict(zip(names, args, strict=False)), **kwargs}.get("attention_mask")
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            shape = f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(
                "Expected the encoder to be called with an `attention_mask` of shape (batch, tokens), which tells"
                f" padding from text, got {shape}. Call it with one, or with none where every token is real;"
                f" {WITHOUT_REPAIR} does with any."
            )
        self.mask_BT = mask

    def enter_layer(self, i: int, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Take note of a call of a layer."""
        self.layer_calls[i] += 1


@contextmanager
def _adding_up(transformer: PreTrainedModel, projections: Mapping[BlockName, nn.Linear]) -> Iterator[_Sums]:
    layers = layer_modules(transformer)
    sums = _Sums(projections, len(layers), _device_of_sums(transformer.device))
    with ExitStack() as undo:
        handle = transformer.base_model.register_forward_pre_hook(sums.enter_model, with_kwargs=True)
        undo.callback(handle.remove)
        for i, layer in enumerate(layers):
            undo.callback(layer.register_forward_pre_hook(partial(sums.enter_layer, i)).remove)
        for name, linear in projections.items():
            # After the layer has run: only then has every hook changed its input that is going to.
            undo.callback(linear.register_forward_hook(partial(sums.add, name)).remove)
        yield sums


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _device_of_sums(device: torch.device) -> torch.device:
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):  # mps
        return torch.device("cpu")
    return device


def _whole(upper_MM: Tensor) -> Tensor:
    """Return the symmetric matrix of which the panels on and above the diagonal are given."""
    return upper_MM.triu() + upper_MM.triu(1).T


def _check(sums_MM: Tensor, name: BlockName, linear: nn.Linear) -> None:
    tokens, what = float(sums_MM[-1, -1]), f"the {name[1]} block of layer {name[0]}"
    if tokens == 0:
        raise ValueError(
            f"Expected a search set of at least one token that reaches {what}, got none. Pass batches with samples."
        )
    if not sums_MM.isfinite().all():
        raise ValueError(
            f"Expected finite inputs of the last linear layer of {what}, got NaN or infinities. Check the weights of"
            " the model and its precision (float16 overflows; bfloat16 and float32 do not)."
        )
    if tokens <= linear.in_features:
        raise ValueError(
            f"Expected at least {linear.in_features + 1} tokens to tell the {linear.in_features} inputs of {what}"
            f" apart, got {tokens:.0f}. Pass more samples; {WITHOUT_REPAIR} does with fewer."
        )
