"""What a search costs: feature by feature beside the exhaustive procedure, and as search set and model grow."""

import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedModel

from axformer_lightning.anatomy import HardAttention
from axformer_lightning.basics import eval_mode
from axformer_lightning.basics.colors import BLUE, GRAY
from axformer_lightning.plan import Plan
from axformer_lightning.scoring import BATCH_TOKENS, batches_by_length, to_device
from axformer_lightning.search import SearchSettings, Shortcuts, search_plan
from axformer_lightning.sweeps.memory import forget_peak, resident_bytes

REFERENCE_BATCH_SIZE = 32
GROWTH = SearchSettings(
    HardAttention(), pruning=None, full_scores=True
)  # one candidate for each layer, none left early
MEASURES = {"layer_tokens": "layer-tokens", "seconds": "seconds", "kept_bytes": "bytes kept"}  # what is drawn
PROPORTIONAL = {"color": GRAY, "linestyle": "--", "linewidth": 1}


@dataclass(frozen=True)
class Step:
    """One way to run the same search.

    Args:
        name: what it has more than the step before.
        by_length: whether samples of similar length share a batch; else all are padded to the same length.
        settings: of the search.
    """

    name: str
    by_length: bool
    settings: SearchSettings


@dataclass(frozen=True)
class Cost:
    """What one search cost.

    Args:
        step: which way it was run.
        candidates: candidates tried.
        accepted: candidates accepted.
        differing: decisions that are not those of the first step.
        layer_tokens: tokens times layers run; a layer run in part counts by its share of multiply-adds.
        exhaustive_layer_tokens: what the reference procedure runs for the same candidates, by its formula.
        seconds: how long it took.
        cpu_seconds: for how long it had a core; of several threads the sum.
        kept_bytes: most bytes that were kept from one candidate to the next.
        peak_rss: most memory that the process had meanwhile, data and model included; None where that is not known.
        device_bytes: most memory that tensors took on a GPU, None without one.
    """

    step: str
    candidates: int
    accepted: int
    differing: int
    layer_tokens: float
    exhaustive_layer_tokens: float
    seconds: float
    cpu_seconds: float
    kept_bytes: int
    peak_rss: int | None
    device_bytes: int | None


def steps(settings: SearchSettings, cache_memory: int) -> list[Step]:
    """Return the exhaustive procedure, then every feature of the search switched on, one after the other.

    Args:
        settings: what is searched for and how it is judged.
        cache_memory: bytes for what is kept, once anything is.

    Example:
        >>> [step.name for step in steps(GROWTH, 2**30)][:3]
        ['exhaustive', '+ batches by length', '+ replay']
    """
    nothing = Shortcuts(share_blocks=False, first_token=False)
    whole = replace(settings, full_scores=True, early_stop="exact", cache_memory=0, shortcuts=nothing)
    replay = replace(whole, cache_memory=cache_memory)
    shared = replace(replay, shortcuts=replace(nothing, share_blocks=True))
    first_token = replace(shared, shortcuts=replace(shared.shortcuts, first_token=True))
    exact = replace(first_token, full_scores=False)
    return [
        Step("exhaustive", False, whole),
        Step("+ batches by length", True, whole),
        Step("+ replay", True, replay),
        Step("+ shared blocks", True, shared),
        Step("+ first token", True, first_token),
        Step("+ exact early rejection", True, exact),
        Step("+ statistical stop", True, replace(exact, early_stop="statistical")),
    ]


def search_costs(
    model: PreTrainedModel,
    samples: Mapping[str, Tensor],
    settings: SearchSettings,
    *,
    cache_memory: int,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[Cost]:
    """Run the same search in every way of :func:`steps`, and yield what each cost as soon as it is known.

    Every search begins with the same model, which is unchanged afterwards.

    Args:
        model: a fine-tuned model.
        samples: the search set as one batch, every sample padded to the length that the reference procedure pads to.
        settings: what is searched for and how it is judged.
        cache_memory: bytes for what is kept, once anything is.
        batch_tokens: most tokens of a batch, once samples are batched by length.

    Raises:
        ValueError: as :func:`~axformer_lightning.find_plan`.
    """
    reference_batches = _padded(samples)
    by_length = batches_by_length([samples], batch_tokens, model.config.pad_token_id or 0)
    _warm_up(model, reference_batches[0])
    reference: Plan | None = None
    for step in steps(replace(settings, max_length=samples["input_ids"].shape[1]), cache_memory):
        plan, cost = measure(step.name, model, by_length if step.by_length else reference_batches, step.settings)
        reference = reference or plan
        yield replace(cost, differing=num_differing(plan, reference))


def growth_cost(model: PreTrainedModel, batches: Sequence[Any], *, cache_memory: int) -> Cost:
    """Return what a search costs that tries one candidate per layer, hard attention, and evaluates it to the end.

    A whole search tries some thirty candidates per layer, which grow alike.

    Args:
        model: what is searched; random weights do.
        batches: the search set.
        cache_memory: bytes for what is kept.

    Raises:
        ValueError: as :func:`~axformer_lightning.find_plan`.
    """
    _warm_up(model, batches[-1])
    return measure("growth", model, batches, replace(GROWTH, cache_memory=cache_memory))[1]


def measure(step: str, model: PreTrainedModel, batches: Sequence[Any], settings: SearchSettings) -> tuple[Plan, Cost]:
    """Run one search, and return its plan and what it cost.

    Args:
        step: its name.
        model: what is searched.
        batches: the search set, in the batches that are run.
        settings: of the search.
    """
    gc.collect()  # what the search before it kept
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(model.device)
    is_counted_anew = forget_peak()
    began = time.process_time()
    plan, counts = search_plan(model, model, batches, settings)
    return plan, Cost(
        step=step,
        candidates=counts.candidates,
        accepted=counts.accepted,
        differing=0,
        layer_tokens=counts.layer_tokens,
        exhaustive_layer_tokens=counts.exhaustive_layer_tokens,
        seconds=counts.seconds,
        cpu_seconds=time.process_time() - began,
        kept_bytes=counts.kept_bytes,
        peak_rss=resident_bytes(peak=True) if is_counted_anew else None,
        device_bytes=torch.cuda.max_memory_allocated(model.device) if on_gpu else None,
    )


def num_differing(plan: Plan, reference: Plan) -> int:
    """Return how many candidates were decided otherwise than in ``reference``, or tried in one of the two alone."""
    ours, theirs = (
        {(d.kind, d.layer, d.index): d.accepted for d in decided.decisions} for decided in (plan, reference)
    )
    return sum(ours.get(candidate) != theirs.get(candidate) for candidate in {**ours, **theirs})


def draw_growth(curves: Mapping[str, Sequence[tuple[int, Cost]]], path: str | os.PathLike[str]) -> None:
    """Draw how the cost of a search grows, as a PNG: a row for each curve, with what growth in proportion would be.

    Args:
        curves: by what grows (`"samples"`, `"layers"`), its values and what was measured with each.
        path: where to; replaced if it exists.
    """
    growth_figure(curves).savefig(path, format="png", dpi=150)


def growth_figure(curves: Mapping[str, Sequence[tuple[int, Cost]]]) -> Figure:
    """Return what :func:`draw_growth` draws as a figure, to be changed or saved otherwise."""
    figure = Figure(figsize=(10, 0.6 + 2.8 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), len(MEASURES), squeeze=False)
    for row, (grows, points) in zip(grid, curves.items(), strict=True):
        for axes, (measured, label) in zip(row, MEASURES.items(), strict=True):
            sizes, values = [size for size, _ in points], [getattr(cost, measured) for _, cost in points]
            axes.plot(sizes, [values[0] * size / sizes[0] for size in sizes], **PROPORTIONAL, label="in proportion")
            axes.plot(sizes, values, color=BLUE, marker="o", label="measured")
            axes.set(xlabel=grows, ylabel=label, xscale="log", xticks=sizes, xticklabels=sizes)
            axes.set_yscale("log" if min(values) > 0 else "linear")
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _padded(samples: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the samples as they are, a few at a time."""
    starts = range(0, len(samples["input_ids"]), REFERENCE_BATCH_SIZE)
    return [{name: value[start : start + REFERENCE_BATCH_SIZE] for name, value in samples.items()} for start in starts]


def _warm_up(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
    """Run a batch, lest the first search pay for what a process does once."""
    with eval_mode(model), torch.no_grad():
        model(**to_device(dict(batch), model.device))
