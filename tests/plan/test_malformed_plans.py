"""Damaged and hand-edited plans: each is refused by a ``ValueError`` that names the file, or is a valid plan."""

import copy
import json
import math
import random
import re
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axformer_lightning import apply_plan_
from axformer_lightning.anatomy import KINDS, HardAttention, LayerPlan
from axformer_lightning.plan import Decision, Plan

PLAN = Plan(
    "bert",
    3,
    4,
    48,
    (
        LayerPlan("kept", (1, 3), "removed", (), HardAttention(7, True)),
        LayerPlan("removed", (), "kept", ((0, 8), (16, 48))),
        LayerPlan("kept", (), "kept", ((4, 12),)),
    ),
    (
        Decision(1, "head", 0, 1, 0.5, 0.75, 0.625, True, 192),
        Decision(2, "neuron_group", 2, 3, 0.125, 1.0, 0.5, True, 192, 0.75, 0.5),
        Decision(2, "feed_forward", 0, None, None, None, 0.5, False, 64),
    ),
)
TEXT = json.dumps(PLAN.to_dict())
TOKENS = re.findall(r'"[^"]*"|[-\d.]+|[{}\[\],:]|\w+|\s+', TEXT)
ODD_TOKENS = [
    *("true", "false", "null", "NaN", "Infinity", "-Infinity", "-1", "0", "1", "2", "3", "48", "49", "1.0", "0.5"),
    *("1e3", "1e999", "-0", "01", "9" * 400, "9" * 5000, '"1"', '""', '"kept"', '"head"', r'"\ud800"', r'"\u0000"'),
    *("{}", "[]", "[[]]", "[" * 3000, "[" * 500 + "]" * 500, "{", "}", "[", "]", ",", ":", '"layers"', '"k":7,'),
    *("\ufeff", "'", "/**/"),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 50)
    | st.integers()
    | st.floats(width=64)
    | st.sampled_from(["kept", "removed", "head", "bert", "axformer-plan", "\ud800", "\0"])
    | st.text(max_size=5),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=8,
)


def outcome(path):
    """The plan in a file, or None if it is refused as it should be."""
    try:
        plan = Plan.load(path)
    except ValueError as error:
        message = str(error)
        assert repr(str(path)) in message
        assert len(message) < 1000
        return None
    assert_valid(plan)
    assert Plan.from_json(plan.to_json()) == plan
    return plan


def outcome_of(content):
    """As `outcome`, of a file that is only said to exist: writing thousands of them takes longer than reading them."""
    with mock.patch.object(Path, "read_text", lambda self, encoding: content.decode(encoding)):
        return outcome("said/to/be/a/plan.json")


def assert_valid(plan):
    """Written anew, not by what the package checks with."""
    sizes = (plan.num_layers, plan.num_heads, plan.intermediate_size)
    assert type(plan.model_type) is str
    assert all(type(size) is int and size >= 1 for size in sizes)
    assert len(plan.layers) == plan.num_layers
    for layer in plan.layers:
        numbers = (*layer.heads_removed, *(edge for pair in layer.neurons_removed for edge in pair))
        assert all(type(number) is int for number in numbers)
        assert list(layer.heads_removed) == sorted(set(layer.heads_removed))
        assert all(0 <= head < plan.num_heads for head in layer.heads_removed)
        ranges = layer.neurons_removed
        assert all(start < stop for start, stop in ranges)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(ranges))
        assert not ranges or (ranges[0][0] >= 0 and ranges[-1][1] <= plan.intermediate_size)
        assert (layer.attention, bool(layer.heads_removed)) in {("kept", False), ("kept", True), ("removed", False)}
        assert (layer.feed_forward, bool(ranges)) in {("kept", False), ("kept", True), ("removed", False)}
        if layer.hard_attention is not None:
            assert (type(layer.hard_attention.k), type(layer.hard_attention.renormalize)) == (int, bool)
            assert layer.hard_attention.k >= 1
    for decision in plan.decisions:
        assert decision.kind in KINDS
        assert 0 <= decision.layer < plan.num_layers
        for name in ("round", "layer", "samples_seen"):
            assert type(getattr(decision, name)) is int
        for name in ("loss", "share_not_worse", "best_before", "metric", "metric_before"):
            value = getattr(decision, name)
            assert value is None or (type(value) is float and abs(value) < float("inf"))
        assert type(decision.accepted) is bool


def edited(generator):
    """The text of the plan after one to three random edits of its tokens."""
    tokens = list(TOKENS)
    for _ in range(generator.randint(1, 3)):
        place, other = generator.randrange(len(tokens)), generator.randrange(len(tokens))
        new = generator.choice((*ODD_TOKENS, tokens[other]))
        match generator.randrange(4):
            case 0:
                tokens[place] = new
            case 1:
                tokens.insert(place, new)
            case 2:
                del tokens[place]
            case 3:
                tokens[place], tokens[other] = tokens[other], tokens[place]
    return "".join(tokens)


def nodes(data):
    """Every object or array of a JSON value, with each of its keys or indices."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, dict | list):
            yield from nodes(value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan.json"


def test_a_truncated_plan_is_refused_wherever_it_ends():
    for length in range(len(TEXT)):
        assert outcome_of(TEXT[:length].encode()) is None
    assert outcome_of(TEXT.encode()) == PLAN


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_leaves_a_valid_plan():
    accepted = 0
    for place in range(8 * len(TEXT)):
        content = bytearray(TEXT.encode())
        content[place // 8] ^= 1 << place % 8
        accepted += outcome_of(content) is not None
    assert 0 < accepted < len(TEXT)  # digits may turn into digits


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 3000), pytest.param(1, 100_000, marks=pytest.mark.exhaustive)]
)  # fmt: skip
def test_random_edits_of_tokens_are_refused_or_leave_a_valid_plan(seed, count):
    generator = random.Random(seed)
    accepted = 0
    for _ in range(count):
        accepted += outcome_of(edited(generator).encode()) is not None
    assert count // 1000 < accepted < count // 2


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_random_values_are_refused_or_leave_a_valid_plan(data):
    plan = PLAN.to_dict()
    for _ in range(data.draw(st.integers(1, 2))):
        node, key = data.draw(st.sampled_from(list(nodes(plan))))
        node[key] = data.draw(VALUES)
    outcome_of(json.dumps(plan).encode())


@pytest.mark.parametrize("number", [True, 1.0, -1, 10**400, "1", None, [1], math.nan], ids=lambda n: str(n)[:5])
def test_no_whole_number_is_anything_else(number):
    data = PLAN.to_dict()
    tried = 0
    for node, key in list(nodes(data)):
        if type(node[key]) is int:
            whole, node[key] = node[key], number
            huge_is_fine = number == 10**400 and key in ("k", "round", "samples_seen", "num_heads", "intermediate_size")
            null_is_fine = number is None and key == "index"
            assert (outcome_of(json.dumps(data).encode()) is not None) == huge_is_fine or null_is_fine
            node[key] = whole
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    "key", [field.name for cls in (Plan, LayerPlan, Decision, HardAttention) for field in fields(cls)]
)
def test_a_key_that_an_object_has_twice_is_refused(key):
    text, count = re.subn(f'"{key}": ', f'"{key}": null, "{key}": ', TEXT)
    assert count
    with pytest.raises(ValueError, match=f"has the key '{key}' twice"):
        Plan.from_json(text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("latin-1").replace(b"bert", b"b\xe9rt"),
        TEXT.encode().replace(b"bert", b"\xed\xa0\x80"),
        b"\0" * 100,
        b"\x80\x04\x95" + bytes(range(256)),
        TEXT.encode() * 2,
        b"[" * 200_000,
        b'{"format":' * 100_000,
        TEXT.replace('"layers": [', '"layers": ' + "[" * 900 + "]" * 900 + ', "decisions": [').encode(),
        TEXT.replace('"bert"', "[" * 900 + "]" * 900).encode(),
        TEXT.replace("192", "1" * 5000).encode(),
        TEXT.replace('"bert"', json.dumps(["x" * 10**6])).encode(),
        TEXT.replace('"model_type"', json.dumps("y" * 10**6)).encode(),
    ],
    ids=range(16),
)  # fmt: skip
def test_odd_content_is_refused(content, path):
    path.write_bytes(content)
    assert outcome(path) is None


def test_a_lone_surrogate_is_a_name_like_any_other(path):
    path.write_text(TEXT.replace('"bert"', r'"\ud800"'))
    assert outcome(path).model_type == "\ud800"


def test_a_directory_in_place_of_a_plan_is_named(path):
    path.mkdir()
    assert outcome(path) is None


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"x", 1}, b"kept", 10**6000, 1j, [[]] * 9], ids=lambda v: type(v).__name__
)
def test_values_that_no_json_holds_are_refused_too(value):
    """As a checkpoint, which is no JSON, may hold them."""
    for i in range(len(list(nodes(PLAN.to_dict())))):
        data = PLAN.to_dict()
        node, key = list(nodes(data))[i]
        node[key] = value
        try:
            assert_valid(Plan.from_dict(data))
        except ValueError as error:
            message = str(error)
            assert len(message) < 1000
        with pytest.raises(ValueError, match="unknown ones"):
            Plan.from_dict({**PLAN.to_dict(), 1: value, None: value})


@pytest.mark.slow
def test_a_plan_that_does_not_fit_leaves_the_model_as_it_was(tiny, state):
    generator, plans = random.Random(0), {}
    while len(plans) < 12:
        with suppress(ValueError):
            plan = Plan.from_json(edited(generator))
            plans[replace(plan, decisions=())] = plan
    uncut = tiny.model("bert", "sdpa")
    refused = []
    for model in (uncut, apply_plan_(copy.deepcopy(uncut), PLAN)):
        for plan in plans.values():
            copied = copy.deepcopy(model)
            before, config = state(copied), copied.config.to_dict()
            try:
                apply_plan_(copied, plan)
            except ValueError:
                assert state(copied) == before
                assert copied.config.to_dict() == config
                refused.append(plan)
    assert len(plans) / 4 < len(refused) < len(plans) * 2
