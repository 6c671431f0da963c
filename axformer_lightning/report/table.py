"""Results and plans in numbers and words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from axformer_lightning.anatomy import WORD_EMBEDDINGS
from axformer_lightning.basics.mappings import finite
from axformer_lightning.plan import Plan

Row = tuple[str, str, str, str]
Pair = tuple[float | None, float | None]  # of the dense and of the AxFormer model

ABSENT = "-"


def results_table(results: Mapping[str, Any]) -> Table:
    """Return a run's results as a table: the dense model, the AxFormer model, and the change.

    Metrics are shown times 100 and their change in points (values outside -1..1 and thresholds are shown as they
    are); the change of a cost is a ratio. A row without a value on either side is left out; NaN is none.

    Args:
        results: the content of a run's `results.json`.

    Returns:
        A table for rich to print.

    Raises:
        ValueError: if one of the two sides is missing.

    Example:
        >>> dense = {"metrics": {"accuracy": 0.8015}, "parameters": 1_350_000, "latency_ms": {"batch1": 8.1}}
        >>> cut = {"metrics": {"accuracy": 0.8137}, "parameters": 1_000_000, "latency_ms": {"batch1": 6.0}}
        >>> table = results_table({"task": "mrpc", "baseline": dense, "axformer": cut})
        >>> for cells in zip(*(column.cells for column in table.columns)):
        ...     print(" | ".join(map(str, cells)))
        accuracy | 80.15 | 81.37 | +1.22
        parameters | 1,350,000 | 1,000,000 | 1.35x smaller
        latency, batch 1 (ms) | 8.10 | 6.00 | 1.35x faster
    """
    results = finite(results)
    absent = [side for side in ("baseline", "axformer") if side not in results]
    if absent:
        raise ValueError(f"Expected the results of both 'baseline' and 'axformer', got none of {absent}.")
    table = Table(title=Text(_title(results)), box=box.SIMPLE_HEAD)
    table.add_column()
    for header in ("dense", "AxFormer", "change"):
        table.add_column(header, justify="right")
    for row in _rows(results["baseline"], results["axformer"]):
        table.add_row(*map(Text, row))
    return table


def stages_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the model was after each stage of a run as a table, a row for each.

    Args:
        rows: entry `stages` of a run's `results.json`.

    Returns:
        A table for rich to print.

    Example:
        >>> sizes = {"encoder_parameters": 1000, "size_bytes": 80_000}
        >>> dense = {"stage": "fine-tuned", "metrics": {"accuracy": 0.8}, **sizes}
        >>> table = stages_table([dense, {**dense, "stage": "in int8", "size_bytes": 20_000}])
        >>> for cells in zip(*(column.cells for column in table.columns)):
        ...     print(" | ".join(map(str, cells)))
        fine-tuned | 80.00 | 1,000 | 0.08 | 1.00x
        in int8 | 80.00 | 1,000 | 0.02 | 4.00x
    """
    rows = finite(rows)
    names = list(rows[0]["metrics"])
    table = Table(title="After each stage", box=box.SIMPLE)
    for i, head in enumerate(("", *names, "encoder parameters", "size on disk (MB)", "smaller")):
        table.add_column(Text(head), justify="right" if i else "left")
    for row in rows:
        values = [_metric_row(name, (row["metrics"][name], None))[1] for name in names]
        sizes = f"{row['encoder_parameters']:,}", f"{row['size_bytes'] / 1e6:.2f}"
        table.add_row(Text(row["stage"]), *values, *sizes, f"{rows[0]['size_bytes'] / row['size_bytes']:.2f}x")
    return table


def plan_summary(plan: Plan) -> str:
    """Return one sentence that says what a plan removes, which layers get hard attention, and what is in int8.

    Layers are counted from 0, the one nearest the input. The heads and neurons of a removed block are not counted
    again.

    Args:
        plan: what is left of a model.

    Example:
        >>> from axformer_lightning.anatomy import HardAttention, LayerPlan
        >>> soft, hard = LayerPlan(heads_removed=(1, 3)), LayerPlan("removed", hard_attention=HardAttention(k=30))
        >>> plan_summary(Plan("bert", 2, 4, 64, (soft, hard)))
        'Removed 1 of 2 attention blocks and 2 of the 4 remaining heads.'
        >>> plan_summary(Plan("bert", 2, 4, 64, (LayerPlan(), LayerPlan(hard_attention=HardAttention(k=30)))))
        'Nothing was removed; hard attention (k=30) in layer 1.'
        >>> plan_summary(Plan("bert", 2, 4, 64, (LayerPlan(int8=("embeddings", "attention")), LayerPlan())))
        'Nothing was removed; 1 of 2 attention blocks in int8 and the embeddings in int8.'
    """
    removed, others = list(_removed(plan)), [list(_hard_attention(plan)), list(_int8(plan))]
    if not removed and not any(others):
        return "Nothing was removed, and no layer got hard attention."
    said = f"Removed {_listed(removed)}" if removed else "Nothing was removed"
    return "; ".join([said, *(_listed(some) for some in others if some)]) + "."


def _title(results: Mapping[str, Any]) -> str:
    seed = [f"seed {results['seed']}"] if "seed" in results else []
    return ", ".join([str(results[key]) for key in ("task", "model") if key in results] + seed)


def _rows(dense: Mapping[str, Any], cut: Mapping[str, Any]) -> Iterator[Row]:
    for name, pair in _pairs(dense.get("metrics"), cut.get("metrics")):
        yield _metric_row(name, pair)
    costs = dict(_pairs(dense, cut))
    macs = max(costs.get("macs_per_sample", (0, 0)), key=lambda value: value or 0) or 0
    prefix, many = ("G", 1e9) if macs >= 1e9 else ("M", 1e6)
    for name, label, unit, digits, less, more in (
        ("parameters", "parameters", 1, 0, "smaller", "larger"),
        ("encoder_parameters", "encoder parameters", 1, 0, "smaller", "larger"),
        ("size_bytes", "size on disk (MB)", 1e6, 2, "smaller", "larger"),
        ("macs_per_sample", f"MACs per sample ({prefix})", many, 2, "fewer", "more"),
    ):
        if name in costs:
            yield _cost_row(label, costs[name], unit, digits, less, more)
    for name, pair in _pairs(dense.get("latency_ms"), cut.get("latency_ms")):
        yield _cost_row(f"latency, {name.replace('batch', 'batch ')} (ms)", pair, 1, 2, "faster", "slower")


def _pairs(dense: Mapping[str, Any] | None, cut: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """Yield the two values of each name that has a value on at least one side."""
    dense, cut = dense or {}, cut or {}
    for name in {**dense, **cut}:
        pair = dense.get(name), cut.get(name)
        if pair != (None, None):
            yield name, pair


def _metric_row(name: str, pair: Pair) -> Row:
    before, after = pair
    is_share = not name.endswith("_threshold") and all(-1 <= value <= 1 for value in pair if value is not None)
    scale = 100 if is_share else 1
    change = ABSENT if before is None or after is None else f"{scale * (after - before):+z.2f}"
    return name, _number(before, 1 / scale, 2), _number(after, 1 / scale, 2), change


def _cost_row(label: str, pair: Pair, unit: float, digits: int, less: str, more: str) -> Row:
    before, after = pair
    if before is None or after is None:
        change = ABSENT
    elif before == after:
        change = "same"
    elif not after:  # of an encoder whose norms go with its blocks nothing may be left
        change = "all removed"
    else:
        change = f"{before / after:.2f}x {less}" if after < before else f"{after / before:.2f}x {more}"
    return label, _number(before, unit, digits), _number(after, unit, digits), change


def _number(value: float | None, unit: float, digits: int) -> str:
    return ABSENT if value is None else f"{value / unit:,.{digits}f}"


def _removed(plan: Plan) -> Iterator[str]:
    neurons = [len(layer.kept_neurons(plan.intermediate_size)) for layer in plan.layers if layer.feed_forward == "kept"]
    heads = [len(layer.kept_heads(plan.num_heads)) for layer in plan.layers if layer.attention == "kept"]
    for blocks, units, size, left in (
        ("feed-forward", "neurons", plan.intermediate_size, neurons),
        ("attention", "heads", plan.num_heads, heads),
    ):
        blocks_gone, total = plan.num_layers - len(left), size * len(left)
        if blocks_gone:
            yield f"{blocks_gone} of {plan.num_layers} {blocks} blocks"
        if sum(left) < total:
            of = f"of the {total:,} remaining {units}" if blocks_gone else f"of {total:,} {units}"
            yield f"{total - sum(left):,} {of}"


def _hard_attention(plan: Plan) -> Iterator[str]:
    """Yield the layers of each setting of hard attention; a removed attention block has none."""
    hard = {i: layer.hard_attention for i, layer in enumerate(plan.layers) if layer.attention == "kept"}
    for settings in dict.fromkeys(hard.values()):
        if settings is not None:
            layers = [str(i) for i, own in hard.items() if own == settings]
            how = f"k={settings.k}, renormalized" if settings.renormalize else f"k={settings.k}"
            where = f"layer{'s' if len(layers) > 1 else ''} {_listed(layers)}"
            yield f"hard attention ({how}) in {'all layers' if len(layers) == plan.num_layers > 1 else where}"


def _int8(plan: Plan) -> Iterator[str]:
    """Yield what is in int8, of what is kept."""
    for name, words in (("attention", "attention blocks"), ("feed_forward", "feed-forward blocks")):
        kept = [layer for layer in plan.layers if getattr(layer, name) == "kept"]
        if number := sum(name in layer.int8 for layer in kept):
            yield f"{number} of {len(kept)} {words} in int8"
    if any(WORD_EMBEDDINGS in layer.int8 for layer in plan.layers):
        yield "the embeddings in int8"


def _listed(items: Sequence[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
