import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.costs import Conditions, LatencyTable, hardware_name

AT = Conditions("a CPU", "2.13", 1, "torch.float32", "sdpa", "bert", 2, 4, 8, 64, batch_size=32, tokens=128)
ATTENTION, FEED_FORWARD = ((0, 0.5), (1, 1.0), (4, 2.5)), ((0, 0.0), (32, 2.0), (64, 3.0))
BLOCKS = {"attention": ATTENTION, "feed_forward": FEED_FORWARD}
HARD = BLOCKS | {"hard_attention": ((0, 0.5), (4, 4.5))}
TABLE = LatencyTable(AT, 1.25, BLOCKS)


@pytest.fixture
def here(tiny):
    """A model, and a table for it."""
    model = tiny.model("bert")
    blocks = {"attention": ((0, 0.0), (4, 1.0)), "feed_forward": ((0, 0.0), (48, 1.0))}
    return model, LatencyTable(Conditions.of(model, 2, 5), 1.0, blocks)


@given(units=st.integers(0, 64), more=st.integers(0, 64))
def test_times_between_the_rungs_are_on_the_lines(units, more):
    expected = units / 16 if units <= 32 else 2 + (units - 32) / 32
    assert TABLE.block_ms("feed_forward", units) == pytest.approx(expected)
    assert TABLE.block_ms("feed_forward", min(64, units + more)) >= TABLE.block_ms("feed_forward", units)


def test_a_plan_takes_the_sum_of_its_blocks():
    layers = [LayerPlan(heads_removed=(0, 1, 2)), LayerPlan("removed", neurons_removed=((0, 8), (40, 64)))]
    blocks = [("attention", 1), ("feed_forward", 64), ("attention", None), ("feed_forward", 32)]
    assert TABLE.predict_ms(layers) == 1.25 + sum(TABLE.block_ms(*block) for block in blocks) == 7.25
    assert TABLE.predict_ms([LayerPlan("removed", (), "removed")] * 2) == TABLE.rest_ms


def test_a_block_that_is_kept_without_units_takes_its_time():
    assert TABLE.block_ms("attention", 0) == 0.5
    assert TABLE.block_ms("attention", None) == 0


def test_hard_attention_has_times_of_its_own():
    hard = LayerPlan(hard_attention=HardAttention(3))
    table = LatencyTable(AT, 1.0, HARD, hard_attention_k=3)
    assert table.predict_ms([hard, LayerPlan()]) - table.predict_ms([LayerPlan()] * 2) == 2.0
    assert table.predict_ms([LayerPlan("removed", hard_attention=HardAttention(9))] * 2) == 7.0
    with pytest.raises(ValueError, match=r"k=3, as was measured, got k=9. Measure it"):
        table.predict_ms([LayerPlan(hard_attention=HardAttention(9)), LayerPlan()])
    with pytest.raises(ValueError, match=r"were measured, \['attention', 'feed_forward'\], got 'hard_attention'"):
        TABLE.predict_ms([hard, LayerPlan()])


@pytest.mark.parametrize("table", [TABLE, LatencyTable(AT, 0.1 + 0.2, HARD, hard_attention_k=30)])
def test_a_table_comes_back_from_its_file(tmp_path, table):
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "axformer-plan"}, "Expected `format` 'axformer-latency-table' of version 1, got 'axformer-plan'"),
        ({"version": 2}, "of version 1, got 'axformer-latency-table' of 2"),
        ({"rest_ms": "1"}, "rest_ms to be a finite number, got '1'"),
        ({"rest_ms": -0.5}, "Expected `rest_ms`, the time of the model without blocks, from 0, got -0.5"),
        ({"rest_ms": None}, "rest_ms to be a finite number, got None"),
        ({"hard_attention_k": 0}, "hard_attention_k to hold whole numbers of at least 1, got 0"),
        ({"blocks": [1]}, "blocks to be a JSON object, got list"),
        ({"blocks": {"attention": ATTENTION}}, "Expected the times of"),
        ({"blocks": BLOCKS | {"attention": [[0, 1.0, 2.0]]}}, "blocks.attention to hold pairs"),
        ({"blocks": BLOCKS | {"attention": [[0.5, 1.0]]}}, "blocks.attention to hold whole numbers"),
        ({"blocks": BLOCKS | {"attention": []}}, "attention with 0 to all 4 units"),
        ({"blocks": BLOCKS | {"attention": [[0, 1.0], [3, 2.0]]}}, "attention with 0 to all 4 units"),
        ({"blocks": BLOCKS | {"attention": [[0, 2.0], [4, 1.0]]}}, "that do not fall with more units"),
        ({"blocks": BLOCKS | {"attention": [[0, -2.0], [4, 1.0]]}}, "that do not fall with more units"),
        ({"conditions": vars(AT) | {"threads": "1"}}, "conditions.threads to hold whole numbers"),
        ({"conditions": vars(AT) | {"device": 1}}, "conditions.device to be of type str"),
        ({"more": 1}, "unknown ones"),
    ],
)
def test_a_file_that_holds_no_table_is_named(tmp_path, change, message):
    path = tmp_path / "table.json"
    TABLE.save(path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Cannot read the latency table .*table.json") as error:
        LatencyTable.load(path)
    assert message in str(error.value)


def test_a_table_is_for_what_it_was_measured_with(here):
    model, table = here
    table.check(model, batch_size=2, tokens=5)
    with pytest.raises(ValueError, match=r"got batch_size=3 instead of 2, tokens=6 instead of 5. Measure a table"):
        table.check(model, batch_size=3, tokens=6)


@pytest.mark.parametrize(
    ("field", "value"),
    [("device", "a CPU"), ("torch", "1.0"), ("threads", 999), ("attention", "sdpa"), ("intermediate_size", 49)],
)
def test_another_machine_or_model_is_named(here, field, value):
    model, table = here
    there = dataclasses.replace(table.conditions, **{field: value})
    blocks = table.blocks | {"feed_forward": ((0, 0.0), (there.intermediate_size, 1.0))}
    with pytest.raises(ValueError, match=rf"measured with, got {field}=\S.* instead of {value!r}\. Measure"):
        LatencyTable(there, 1.0, blocks).check(model, batch_size=2, tokens=5)


def test_another_precision_is_named(here):
    model, table = here
    with pytest.raises(ValueError, match=r"dtype='torch.bfloat16' instead of 'torch.float32'"):
        table.check(model.bfloat16(), batch_size=2, tokens=5)


def test_what_a_table_has_not_is_named():
    with pytest.raises(ValueError, match="Expected one LayerPlan for each of 2 layers, got 1"):
        TABLE.predict_ms([LayerPlan()])
    with pytest.raises(ValueError, match=r"Expected 0 to 4 units of attention, or None .*, got 5"):
        TABLE.block_ms("attention", 5)


def test_the_processor_has_a_name():
    assert hardware_name(torch.device("cpu"))
