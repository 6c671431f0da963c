"""Damaged and hostile Lightning checkpoints: refused by an error that names the file, and nothing is changed or run."""

import copy
import json
import os
import pickle
import random

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from axformer_lightning import Plan, apply_checkpoint_plans_, apply_plan_, load_from_checkpoint
from axformer_lightning.anatomy import HardAttention, LayerPlan

LAYERS = (
    LayerPlan("kept", (1, 3), "kept", ((0, 8), (24, 48)), HardAttention(3)),
    LayerPlan("removed"),
    LayerPlan("kept", (), "removed"),
)
PLAN = Plan("bert", 3, 4, 48, LAYERS)
LESS = Plan("bert", 3, 4, 48, (LayerPlan(heads_removed=(1,)), LayerPlan(), LayerPlan()))
HARD = LayerPlan(hard_attention=HardAttention(2))
SECOND_REMOVED = (LayerPlan(), LayerPlan("removed"), LayerPlan())
ODD_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=3),
    lambda values: (
        st.lists(values, max_size=3)
        | st.tuples(values)
        | st.dictionaries(st.none() | st.integers(0, 3) | st.text(max_size=3), values, max_size=3)
        | st.just(torch.ones(2))
    ),
    max_leaves=6,
)


class Module(L.LightningModule):
    """Knows nothing of plans."""

    def __init__(self, transformer, other=None):
        super().__init__()
        self.inner = transformer
        self.other = other


class Marker:
    """Unpickled it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


def checkpoint_of(module, *plans):
    """What Lightning writes of a module, with an entry for each pair of a model's name and its plan."""
    items = [{"model": name, "plan": plan and plan.to_dict()} for name, plan in plans]
    return {
        "epoch": 1,
        "global_step": 7,
        "pytorch-lightning_version": L.__version__,
        "state_dict": module.state_dict(),
        "callbacks": {"AccuracyDrivenPruningCallback": {"axformer_plans": items, "rounds_done": 1}, "Timer": {"x": 1}},
        "hyper_parameters": {},
    }


def nodes(data):
    """Every object or array of a nested value, with each of its keys or indices."""
    for key, value in list(data.items()) if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, dict | list):
            yield from nodes(value)


@pytest.fixture
def bert(tiny):
    return tiny.model("bert", "sdpa")


@pytest.fixture
def checkpoint(bert):
    return checkpoint_of(Module(apply_plan_(copy.deepcopy(bert), PLAN)), (None, PLAN))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.ckpt"


@pytest.fixture
def outcome(bert, checkpoint, path):
    """Returns whether a checkpoint loads, and with the weights that were saved."""

    def load():
        try:
            module = load_from_checkpoint(Module, path, transformer=copy.deepcopy(bert))
        except (ValueError, OSError) as error:
            message = str(error)
            assert os.fspath(path) in message
            return "refused"
        weights = module.state_dict()
        same = weights.keys() == checkpoint["state_dict"].keys() and module.inner.axformer_plan == PLAN
        return "same" if same and all(weights[n].equal(v) for n, v in checkpoint["state_dict"].items()) else "other"

    return load


def refused(module, checkpoint, state):
    """Tell whether the plans in a checkpoint are refused, and see to it that the module is as it was."""
    models = [model for model in (module.inner, module.other) if model is not None]
    before = [(state(model), model.config.to_dict()) for model in models]
    try:
        apply_checkpoint_plans_(module, checkpoint)
    except (ValueError, TypeError):
        assert [(state(model), model.config.to_dict()) for model in models] == before
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.exhaustive)])
def test_a_flipped_bit_is_refused_or_was_of_no_account(checkpoint, path, outcome, count):
    torch.save(checkpoint, path)
    assert outcome() == "same"
    content, generator, found = path.read_bytes(), random.Random(0), []
    for i in range(count):
        damaged = bytearray(content)
        # Most of a file is weights; its beginning and its end are what tells where they are.
        place = (generator.randrange(len(content)), generator.randrange(8000), -generator.randrange(1, 8000))[i % 3]
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found.append(outcome())
    assert {*found} == {"same", "refused"}
    assert found.count("refused") > count / 3


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, pytest.param(1500, marks=pytest.mark.exhaustive)])
def test_a_truncated_checkpoint_is_refused_wherever_it_ends(checkpoint, path, outcome, count):
    torch.save(checkpoint, path)
    content, generator = path.read_bytes(), random.Random(0)
    for length in (0, 1, len(content) - 1, *(generator.randrange(len(content)) for _ in range(count))):
        path.write_bytes(content[:length])
        assert outcome() == "refused"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}", b"PK\x05\x06" + bytes(18), b"\x80\x02.", pickle.dumps([1]), b"\0" * 5000, b"\xff" * 999],
)
def test_other_content_is_refused(path, outcome, content):
    path.write_bytes(content)
    assert outcome() == "refused"


@pytest.mark.parametrize(
    "content",
    [None, 7, [], {}, {"state_dict": 3}, {"state_dict": {}, "callbacks": []}, {"epoch": 1}, torch.ones(3)],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused(path, outcome, content):
    torch.save(content, path)
    assert outcome() == "refused"


def test_what_is_no_file_keeps_the_error_of_the_file_system(path, outcome):
    with pytest.raises(FileNotFoundError, match=r"some\.ckpt"):
        load_from_checkpoint(Module, path)
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"some\.ckpt"):
        load_from_checkpoint(Module, path)


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
@pytest.mark.parametrize("place", ["", "state_dict", "hyper_parameters", "callbacks"])
@pytest.mark.parametrize(("environment", "zipped"), [("0", True), ("1", True), ("1", False)])
def test_no_code_is_run(checkpoint, path, outcome, tmp_path, monkeypatch, place, environment, zipped):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", environment)
    (checkpoint[place] if place else checkpoint)["hostile"] = Marker(tmp_path / "marked")
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    assert outcome() == "refused"
    assert not (tmp_path / "marked").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "marked").exists()


def test_the_user_may_trust_a_checkpoint(bert, checkpoint, path):
    checkpoint["hyper_parameters"]["unused"] = random.Random(0)
    torch.save(checkpoint, path)
    assert load_from_checkpoint(Module, path, transformer=bert, weights_only=False).inner.axformer_plan == PLAN


def test_a_plan_that_the_weights_do_not_fit_is_refused(checkpoint, path, outcome):
    for plan in (LESS, Plan("bert", 3, 4, 48, (LayerPlan("removed"),) * 3), None):
        checkpoint["callbacks"]["AccuracyDrivenPruningCallback"]["axformer_plans"][0]["plan"] = plan and plan.to_dict()
        torch.save(checkpoint, path)
        assert outcome() == "refused"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "nowhere"},
        {"model": "inner.bert.encoder"},
        {"model": 7},
        {"model": ""},
        {"model": ["inner"]},
        {"plan": "{}"},
        {"plan": []},
        {"plan": PLAN.to_dict() | {"num_heads": 8}},
        {"plan": PLAN.to_dict() | {"model_type": "roberta"}},
        {"plan": PLAN.to_dict() | {"version": 99}},
        {"plan": PLAN.to_dict() | {"num_layers": 2, "layers": PLAN.to_dict()["layers"][:2]}},
        {"plan": PLAN.to_dict() | {"layers": torch.ones(3)}},
        {"more": 1},
    ],
    ids=range(13),
)
def test_an_edited_entry_is_refused_and_changes_nothing(bert, checkpoint, path, outcome, state, change):
    checkpoint["callbacks"]["AccuracyDrivenPruningCallback"]["axformer_plans"][0].update(change)
    assert refused(Module(bert), checkpoint, state)
    torch.save(checkpoint, path)
    assert outcome() == "refused"


@pytest.mark.parametrize("plans", [None, {}, 7, "plans", [7], [[]], [{}], [{"model": None}], [None]], ids=str)
def test_an_entry_of_another_type_is_refused_and_changes_nothing(bert, checkpoint, state, plans):
    checkpoint["callbacks"]["AccuracyDrivenPruningCallback"]["axformer_plans"] = plans
    assert refused(Module(bert), checkpoint, state)


def test_a_path_in_the_place_of_a_checkpoint_is_refused(bert):
    with pytest.raises(TypeError, match=r"Expected a checkpoint .*, a dict, got str\. `load_from_checkpoint`"):
        apply_checkpoint_plans_(Module(bert), "last.ckpt")


@pytest.mark.slow
@settings(max_examples=250)
@given(st.data())
def test_random_values_are_refused_or_are_a_plan(data):
    module = torch.nn.Module()
    items = [{"model": None, "plan": PLAN.to_dict()}]
    states = {"callbacks": {"A": {"axformer_plans": items}}}
    node, key = data.draw(st.sampled_from(list(nodes(items))))
    node[key] = data.draw(ODD_VALUES)
    with pytest.raises(ValueError, match=r"^(Expected|Cannot read the plan) "):
        apply_checkpoint_plans_(module, states)  # also a good plan finds no model here


@pytest.mark.parametrize(("first", "now"), [(PLAN, None), (LESS, PLAN), (None, PLAN), (PLAN, LESS)])
@pytest.mark.parametrize(
    "second",
    [
        ("nowhere", PLAN),
        ("inner.bert", PLAN),
        ("other", Plan("roberta", 3, 4, 48, LAYERS)),
        ("other", Plan("bert", 3, 8, 48, LAYERS)),
        ("other", Plan("bert", 3, 4, 48, (HARD, LayerPlan("removed"), LayerPlan()))),
        ("other", Plan("bert", 3, 4, 48, (HARD, LayerPlan(), LayerPlan()))),
        ("other", Plan("bert", 3, 4, 48, (LayerPlan(), LayerPlan("removed"), LayerPlan("removed")))),
    ],
    ids=["unknown", "nested", "family", "heads", "hard", "hard again", "wrapped"],
)
def test_where_the_second_plan_is_refused_the_first_is_not_applied(tiny, bert, state, first, now, second):
    other = apply_plan_(tiny.model("bert", "sdpa", seed=1), Plan("bert", 3, 4, 48, SECOND_REMOVED))
    other.config._attn_implementation = "flex_attention"
    other.bert.encoder.layer[2].attention.output.dense = torch.nn.Identity()
    module = Module(bert if now is None else apply_plan_(bert, now), other)
    assert refused(module, checkpoint_of(module, ("inner", first), second), state)


def test_the_number_of_a_head_that_turns_into_another_is_a_valid_plan(bert, checkpoint):
    """What no one can notice: nothing but the weights, which have the same shape, belongs to it."""
    text = json.dumps(checkpoint["callbacks"]).replace('"heads_removed": [1, 3]', '"heads_removed": [0, 3]')
    apply_checkpoint_plans_(Module(bert), {"callbacks": json.loads(text)})
    assert bert.axformer_plan.layers[0].heads_removed == (0, 3)
