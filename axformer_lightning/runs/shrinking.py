"""The stages of a run that goes down to a budget: one chain of cuts, and of every ratio asked for a model."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedModel

from axformer_lightning.anatomy import layers_left
from axformer_lightning.artifacts import save_pretrained
from axformer_lightning.basics import write_json
from axformer_lightning.budgets import Budget, Table, shrink_
from axformer_lightning.budgets.floor import FEWEST
from axformer_lightning.callbacks.checks import check_reachable
from axformer_lightning.costs import LatencyTable, encoder_size_ratio, file_size_ratio, num_positions, sizes_of
from axformer_lightning.report import draw_pareto
from axformer_lightning.report.naming import name_of_ratio
from axformer_lightning.runs.dev import dev_metrics
from axformer_lightning.runs.stages import Run
from axformer_lightning.scoring import BATCH_TOKENS, search_batches
from axformer_lightning.timing import measure_latency

LATENCIES, PARETO, DAMAGE = "latency.json", "pareto.json", "damage.json"
Point = dict[str, Any]
logger = logging.getLogger(__name__)


def check_can_shrink(model: PreTrainedModel, budget: Budget, *, ratios: Sequence[float] = (), samples: int) -> None:
    """Refuse a budget that cannot be reached, while nothing is trained yet; what has to be timed is not known by then.

    Args:
        model: that will be fine-tuned and made smaller.
        budget: what is to be reached.
        ratios: as of :func:`shrink_to_budget`.
        samples: of the search set.

    Raises:
        ValueError: if a target cannot be reached, or the latency table is of another model.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
        >>> check_can_shrink(model, Budget({"speedup": 2, "tokens": 1000}), samples=100)
        Traceback (most recent call last):
        ValueError: Expected `pruning.tokens` to be 1 to 512, got 1000.
    """
    settings, longest = budget.settings, num_positions(model)
    if budget.measures_times and not 1 <= settings["tokens"] <= longest:
        raise ValueError(f"Expected `pruning.tokens` to be 1 to {longest}, got {settings['tokens']}.")
    if settings["metric_floor"] is not None and samples < 3 * FEWEST:
        raise ValueError(
            f"Expected a search set of at least {3 * FEWEST} samples with `pruning.metric_floor`, as a third of them"
            f" tests it, got {samples}. Raise `data.search_fraction` or `data.max_search_samples`."
        )
    check_reachable(model, Budget({"encoder_size_ratio": max(ratios)}) if ratios else budget)


def shrink_to_budget(
    run: Run, budget: Budget, *, ratios: Sequence[float] = (), retrain: Callable[[str], Any] | None = None
) -> list[Point]:
    """Make the model of a run smaller; write `pareto.json` and `pareto.png`, `damage.json`, and of each ratio a model.

    Each of several ratios is reached from the one before as it was cut: what retraining makes of a model goes into its
    artifact and not into the next one. The module ends as the last.

    Args:
        run: the run after fine-tuning.
        budget: what is to be reached; with ``ratios`` these, one after another, instead of its own.
        ratios: of the encoder's size, each of which gets a model in `model-...x/`, the largest one in `model/`.
        retrain: trains the module as it stands, as a stage of that name, and returns what came of it; None leaves
            models as they are cut.

    Returns:
        What `pareto.json` holds: a point for the dense model and for every cut, with its sizes as shares of the dense
        model's and the `search_loss`; those that are models also have `metrics` on the dev set, an `artifact`, and
        where they are retrained `metrics_as_cut` and what came of `retraining`.

    Raises:
        ValueError: if a target cannot be reached, or the latency table of this run was measured elsewhere.
    """
    begin = run.progress.once("budget", run.module, partial(_begin, run, budget))
    if begin["latencies"]:
        own = LatencyTable.load(run.directory / LATENCIES)
        own.check(run.model, **_batch(budget.settings))
        budget = replace(budget, options={**budget.options, "latency_table": own})
    dense: Point = {**begin["point"], "metrics": run.progress.done["finetune"], "artifact": "finetuned"}
    points = [dense]
    tables: list[Any] = []
    wanted: list[float | None] = [*sorted(set(ratios))] or [None]
    for ratio in wanted:
        name = "" if ratio is None else name_of_ratio(ratio)
        cuts = run.progress.once(f"shrink{name}", run.module, partial(_shrink, run, budget, ratio, begin["point"]))
        # What a stage returned stays as it is, for a run that is resumed gets it again.
        points += [{key: value for key, value in cut.items() if key != "table"} for cut in cuts]
        tables += [cut["table"] for cut in cuts if "table" in cut]
        artifact = "model" if ratio == wanted[-1] else f"model-{name}"
        finish = partial(_finish, run, f"retrain{name}", artifact, retrain)
        points[-1] |= run.progress.once(f"retrain{name}", run.module, finish)
    write_json(run.directory / DAMAGE, tables, indent=None)
    write_json(run.directory / PARETO, points)
    draw_pareto(points, run.directory / "pareto.png", metric=next(iter(dense["metrics"])))
    return points


def _begin(run: Run, budget: Budget) -> dict[str, Any]:
    """Measure what a time is predicted by, before anything is cut."""
    _to_device(run)
    if budget.measures_times:
        batch = _batch(budget.settings)
        logger.info("Measure latencies: batches of %(batch_size)d x %(tokens)d tokens.", batch)
        with isolate_rng():
            measure_latency(run.model, **batch).save(run.directory / LATENCIES)
    return {"point": _sizes(run), "latencies": budget.measures_times}


def _shrink(run: Run, budget: Budget, ratio: float | None, dense: Point) -> list[Point]:
    _to_device(run)
    if ratio is not None:
        ratio *= _sizes(run)["encoder_size"] / dense["encoder_size"]  # from here on
        if ratio <= 1 + 1e-9:
            return [_sizes(run)]  # smaller already
        budget = Budget({"encoder_size_ratio": ratio}, budget.effort)
    logger.info("Shrink: %s.", ", ".join(f"{name} {value:g}" for name, value in budget.asked.items()) or "to the floor")
    with isolate_rng():
        batches = search_batches(run.module, run.data.val_dataloader(), BATCH_TOKENS, run.model.config)
        slices = shrink_(run.module, run.model, batches, budget)
        return [{**_sizes(run), "search_loss": piece.loss, "table": _plain(piece.table)} for piece in slices]


def _finish(run: Run, stage: str, artifact: str, retrain: Callable[[str], Any] | None) -> dict[str, Any]:
    """Retrain a model, save and evaluate it, and go back to what it was as cut unless it is the last."""
    is_last = artifact == "model"
    reporter = run.make_trainer("report", 0)
    as_cut = {} if is_last else {name: value.clone() for name, value in run.module.state_dict().items()}
    found: dict[str, Any] = {}
    if retrain is not None:
        with isolate_rng():  # what is only reported changes no training
            found["metrics_as_cut"] = dev_metrics(run.module, run.data, reporter, None)
        found["retraining"] = retrain(stage)
    save_pretrained(run.model, run.directory / artifact, tokenizer=run.tokenizer)
    found |= {"metrics": dev_metrics(run.module, run.data, reporter, run.directory / artifact), "artifact": artifact}
    if not is_last:
        run.module.load_state_dict(as_cut)
    return found


def _plain(table: Table) -> list[dict[str, Any]]:
    """Return what was measured of each block, in plain types."""
    return [
        {"layer": layer, "block": block, "widths": [o.width for o in options], "damage": [o.damage for o in options]}
        for (layer, block), options in table.items()
    ]


def _batch(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch whose time counts."""
    return {name: settings[name] for name in ("batch_size", "tokens")}


def _sizes(run: Run) -> Point:
    sizes, layers = sizes_of(run.model), layers_left(run.model)
    return {"encoder_size": encoder_size_ratio(sizes, layers), "file_size": file_size_ratio(sizes, layers)}


def _to_device(run: Run) -> None:
    run.module.to(run.make_trainer("search", 0).strategy.root_device)
