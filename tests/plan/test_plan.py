import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axformer_lightning.anatomy import BERT, Anatomy, BlockRanges, HardAttention, LayerPlan
from axformer_lightning.basics import write_atomically
from axformer_lightning.plan import Decision, Plan
from axformer_lightning.plan.versions import UPGRADES, VERSION

GOLDEN = Path(__file__).parent / "golden"

RANGES = BlockRanges("feed_forward", (-1.5, 2.25), (0.0, 3.5))
PLAN = Plan(
    "bert",
    2,
    4,
    48,
    (
        LayerPlan("kept", (1, 3), "removed", (), HardAttention(7, True)),
        LayerPlan("removed", (), "kept", ((0, 8), (16, 48))).in_int8("feed_forward", RANGES),
    ),
    (
        Decision(1, "head", 0, 1, 0.5, 0.75, 0.625, True, 192, 0.875, 0.75, 1000),
        Decision(2, "feed_forward", 0, None, None, None, 0.5, False, 64, None, None, 800),
    ),
    repaired=True,
)
ANATOMY = Anatomy(
    "bert", BERT, ("bert.encoder.layer.0", "bert.encoder.layer.1"), num_heads=4, head_size=8, intermediate_size=48
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
HARD = st.none() | st.builds(HardAttention, st.integers(1, 500), st.booleans())
HEADS = st.sets(st.integers(0, 3)).map(lambda heads: tuple(sorted(heads)))
EDGES = st.sets(st.integers(0, 48)).map(sorted)
NEURONS = EDGES.map(lambda edges: tuple(zip(edges[::2], edges[1::2], strict=False)))
ATTENTION = HEADS.map(lambda heads: ("kept", heads)) | st.just(("removed", ()))
FEED_FORWARD = NEURONS.map(lambda ranges: ("kept", ranges)) | st.just(("removed", ()))
LAYERS = st.builds(lambda first, second, hard: LayerPlan(*first, *second, hard), ATTENTION, FEED_FORWARD, HARD)
WHOLES = st.tuples(st.sampled_from(["hard_attention", "attention", "feed_forward"]), st.none())
PARTS = st.tuples(st.sampled_from(["head", "neuron_group", "neurons_left", "heads_left"]), st.integers(0, 3))
DECISIONS = st.builds(
    lambda round_, layer, kind_and_index, *scores: Decision(
        round_, kind_and_index[0], layer, kind_and_index[1], *scores
    ),
    st.integers(1, 9),
    st.integers(0, 1),
    WHOLES | PARTS,
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    NUMBERS,
    st.booleans(),
    st.integers(0, 10**6),
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    st.none() | st.integers(0, 10**9),
)
PLANS = st.builds(
    lambda layers, decisions, repaired: Plan("bert", 2, 4, 48, layers, tuple(decisions), repaired),
    st.tuples(LAYERS, LAYERS),
    st.lists(DECISIONS, max_size=5),
    st.booleans(),
)


def changed(path, value):
    """The JSON of ``PLAN`` with one entry replaced; the path leads there through objects and arrays."""
    data = PLAN.to_dict()
    *way, last = path
    place = data
    for step in way:
        place = place[step]
    place[last] = value
    return json.dumps(data)


@given(PLANS)
def test_a_plan_survives_its_json(plan):
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_survives_its_file(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert Plan.load(os.fspath(tmp_path / "plan.json")) == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_this_version_writes_its_golden_file():
    assert PLAN.to_json() == (GOLDEN / f"version{VERSION}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_plans_of_every_version_load_for_ever(version):
    """Of version 1 decisions have no size; nothing was repaired before 3, in int8 before 4, in static int8 before 5."""
    lacking = ("encoder_parameters",) if version == 1 else ()
    decisions = [replace(decision, **dict.fromkeys(lacking)) for decision in PLAN.decisions]
    lacking_int8 = {"int8": ()} if version < 4 else {}
    lacking_ranges = {"int8_ranges": ()} if version < 5 else {}
    layers = tuple(replace(layer, **lacking_int8, **lacking_ranges) for layer in PLAN.layers)
    assert Plan.load(GOLDEN / f"version{version}.json") == replace(
        PLAN, layers=layers, decisions=tuple(decisions), repaired=version >= 3
    )


def test_every_older_version_has_what_upgrades_it():
    assert sorted(UPGRADES) == list(range(1, VERSION))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (["format"], "plan", "`format` 'axformer-plan', got 'plan'"),
        (["version"], VERSION + 1, f"version 1 to {VERSION}, got {VERSION + 1}.*Update"),
        (["version"], 0, "got 0"),
        (["version"], True, "got True"),
        (["version"], "1", "got '1'"),
        (["author"], "me", "the plan .*unknown ones: ..author"),
        (["layers", 1, "rank"], 3, r"layers\[1\] .*unknown ones: ..rank"),
        (["layers", 0, "int8"], ["feed_forward"], r"layers\[0\].int8 to hold some of \['embeddings', 'attention'\]"),
        (["layers", 1, "int8"], ["feed_forward", "embeddings"], r"layers\[1\].int8 to hold some of \['feed_forward'\]"),
        (["layers", 0, "int8_ranges"], [asdict(RANGES)], r"layers\[0\].int8_ranges .*some of \[\], .*'feed_forward'"),
        (["layers", 1, "int8_ranges", 0, "block"], "embeddings", r"some of \['feed_forward'\], .*\['embeddings'\]"),
        (["layers", 1, "int8_ranges", 0, "outer"], [0.5, 1.0], r"around zero, got \[0.5, 1.0\] of the feed_forward"),
        (["layers", 1, "int8_ranges", 0, "inner"], [-1.0], r"layers\[1\].int8_ranges .*pairs .*got \[-1.0\]"),
        (["layers", 1, "int8_ranges", 0, "inner"], [-1.0, None], r"layers\[1\].int8_ranges .*finite number, got None"),
        (["layers", 1, "int8"], [3], r"layers\[1\].int8 .*str, got 3"),
        (["layers", 0, "hard_attention", "tau"], 1, r"layers\[0\].hard_attention .*unknown ones: ..tau"),
        (["decisions", 1, "seconds"], 1.5, r"decisions\[1\] .*unknown ones: ..seconds"),
        (["model_type"], None, "model_type .*str, got None"),
        (["num_layers"], 3, "3 entries in `layers`, got 2"),
        (["num_layers"], True, "num_layers .*got True"),
        (["num_heads"], 0, "num_heads .*at least 1, got 0"),
        (["num_heads"], 4.0, "num_heads .*got 4.0"),
        (["intermediate_size"], "48", "intermediate_size .*got '48'"),
        (["layers"], {}, "layers to be of type list"),
        (["layers", 0], [], r"layers\[0\] to be a JSON object, got list"),
        (["layers", 0, "attention"], "gone", r"layers\[0\].attention .*got 'gone'"),
        (["layers", 0, "attention"], ["kept"], r"layers\[0\].attention .*got \['kept'\]"),
        (["layers", 1, "feed_forward"], None, r"layers\[1\].feed_forward .*got None"),
        (["layers", 0, "attention"], "removed", r"layers\[0\].heads_removed to be empty .*got \[1, 3\]"),
        (["layers", 1, "feed_forward"], "removed", r"layers\[1\].neurons_removed to be empty"),
        (["layers", 0, "heads_removed"], [4], r"layers\[0\].heads_removed .*0..3, got \[4\]"),
        (["layers", 0, "heads_removed"], [-1], r"layers\[0\].heads_removed .*got -1"),
        (["layers", 0, "heads_removed"], [True], r"layers\[0\].heads_removed .*got True"),
        (["layers", 0, "heads_removed"], [1, 1], r"layers\[0\].heads_removed .*got \[1, 1\]"),
        (["layers", 0, "heads_removed"], [2, 1], r"layers\[0\].heads_removed .*got \[2, 1\]"),
        (["layers", 0, "heads_removed"], 1, r"layers\[0\].heads_removed .*list, got 1"),
        (["layers", 1, "neurons_removed"], [[0, 49]], r"layers\[1\].neurons_removed .*got \[\[0, 49\]\]"),
        (["layers", 1, "neurons_removed"], [[8, 8]], r"layers\[1\].neurons_removed .*got \[\[8, 8\]\]"),
        (["layers", 1, "neurons_removed"], [[0, 9], [8, 16]], r"layers\[1\].neurons_removed .*overlap"),
        (["layers", 1, "neurons_removed"], [[8, 16], [0, 4]], r"layers\[1\].neurons_removed .*ascending"),
        (["layers", 1, "neurons_removed"], [[0, 8, 16]], r"layers\[1\].neurons_removed .*pairs"),
        (["layers", 1, "neurons_removed"], [8], r"layers\[1\].neurons_removed .*list, got 8"),
        (["layers", 1, "neurons_removed"], [[False, 8]], r"layers\[1\].neurons_removed .*got False"),
        (["layers", 0, "hard_attention"], 30, r"layers\[0\].hard_attention to be a JSON object, got int"),
        (["layers", 0, "hard_attention", "k"], 0, r"layers\[0\].hard_attention.k .*got 0"),
        (["layers", 0, "hard_attention", "k"], True, r"layers\[0\].hard_attention.k .*got True"),
        (["layers", 0, "hard_attention", "renormalize"], 1, r"layers\[0\].hard_attention.renormalize .*bool, got 1"),
        (["decisions"], None, "decisions to be of type list, got None"),
        (["decisions", 0, "round"], 0, r"decisions\[0\].round .*got 0"),
        (["decisions", 0, "kind"], "layer", r"decisions\[0\].kind .*got 'layer'"),
        (["decisions", 0, "layer"], 2, r"decisions\[0\] in layers 0..1, got 2"),
        (["decisions", 0, "index"], "1", r"decisions\[0\].index .*got '1'"),
        (["decisions", 0, "index"], 4, r"decisions\[0\].*4"),
        (["decisions", 0, "loss"], "0.5", r"decisions\[0\].loss .*got '0.5'"),
        (["decisions", 0, "loss"], True, r"decisions\[0\].loss .*got True"),
        (["decisions", 0, "share_not_worse"], [], r"decisions\[0\].share_not_worse .*got \[\]"),
        (["decisions", 0, "best_before"], None, r"decisions\[0\].best_before .*got None"),
        (["decisions", 0, "accepted"], 1, r"decisions\[0\].accepted .*bool, got 1"),
        (["decisions", 0, "metric"], "0.5", r"decisions\[0\].metric .*got '0.5'"),
        (["decisions", 1, "metric_before"], [], r"decisions\[1\].metric_before .*got \[\]"),
        (["decisions", 0, "samples_seen"], -1, r"decisions\[0\].samples_seen .*got -1"),
        (["decisions", 0, "loss"], float("nan"), "NaN"),
        (["decisions", 1, "best_before"], float("-inf"), "-Infinity"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else None,
)  # fmt: skip
def test_a_wrong_entry_is_named_and_its_file_too(path, value, named, tmp_path):
    text = changed(path, value)
    with pytest.raises(ValueError, match=named):
        Plan.from_json(text)
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(ValueError, match=rf"wrong.json.*{named}"):
        Plan.load(tmp_path / "wrong.json")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_a_number_too_large_for_json_readers_is_named(number):
    text = PLAN.to_json().replace('"best_before": 0.625', f'"best_before": {number}')
    with pytest.raises(ValueError, match=r"decisions\[0\].best_before"):
        Plan.from_json(text)


@pytest.mark.parametrize("field", PLAN.to_dict())
def test_a_missing_field_is_named(field):
    data = PLAN.to_dict()
    del data[field]
    with pytest.raises(ValueError, match=rf"missing: \['{field}'\]"):
        Plan.from_dict(data)


def test_a_plan_from_before_metrics_were_kept_is_read():
    data = PLAN.to_dict() | {"version": 1}
    later = ("metric", "metric_before", "encoder_parameters")
    for decision in data["decisions"]:
        for name in later:
            del decision[name]
    decisions = [replace(decision, **dict.fromkeys(later)) for decision in PLAN.decisions]
    assert Plan.from_dict(data) == replace(PLAN, decisions=tuple(decisions))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, PLAN.to_json()[:-40]])
def test_text_that_holds_no_plan_is_refused_and_its_file_named(text, tmp_path):
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(ValueError, match="plan"):
        Plan.from_json(text)
    with pytest.raises(ValueError, match=r"wrong\.json"):
        Plan.load(tmp_path / "wrong.json")


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "wrong.json").write_bytes(b"\x80\x04\x95")
    with pytest.raises(ValueError, match=r"wrong\.json"):
        Plan.load(tmp_path / "wrong.json")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        Plan.load(tmp_path / "nowhere.json")


@pytest.mark.parametrize("layers", [(LayerPlan(),), (LayerPlan(), LayerPlan(heads_removed=(4,)))])
def test_a_plan_made_in_python_is_checked_too(layers):
    with pytest.raises(ValueError, match="layers"):
        Plan("bert", 2, 4, 48, layers)


@pytest.mark.parametrize(
    ("field", "other"),
    [("model_type", "roberta"), ("layers", ("only",)), ("num_heads", 8), ("intermediate_size", 64)],
)
def test_a_plan_for_another_model_says_what_differs(field, other):
    PLAN.check_fits(ANATOMY)
    anatomy = Anatomy(**{**vars(ANATOMY), field: other})
    name = {"layers": "num_layers"}.get(field, field)
    with pytest.raises(
        ValueError, match=f"with {name} {getattr(anatomy, name)!r}, got one for {getattr(PLAN, name)!r}"
    ):
        PLAN.check_fits(anatomy)


def test_a_dense_plan_removes_nothing():
    dense = Plan.dense(ANATOMY)
    assert dense == Plan("bert", 2, 4, 48, (LayerPlan(), LayerPlan()))
    assert dense.removes_nothing


@pytest.mark.parametrize(
    ("layer", "nothing"),
    [
        (LayerPlan(hard_attention=HardAttention(3)), True),
        (LayerPlan(heads_removed=(0,)), False),
        (LayerPlan(neurons_removed=((0, 1),)), False),
        (LayerPlan("removed"), False),
        (LayerPlan(feed_forward="removed"), False),
    ],
)
def test_hard_attention_alone_removes_nothing(layer, nothing):
    assert Plan("bert", 2, 4, 48, (LayerPlan(), layer)).removes_nothing is nothing


def test_a_number_that_json_lacks_is_not_written(tmp_path):
    broken = Plan("bert", 1, 4, 48, (LayerPlan(),), (Decision(1, "head", 0, 1, float("nan"), 0.5, 0.5, False, 1),))
    with pytest.raises(ValueError, match="JSON compliant"):
        broken.save(tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_crash_while_saving_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    def crash(*args):
        raise KeyboardInterrupt

    write_atomically(tmp_path / "plan.json", "old")
    with monkeypatch.context() as patch:
        patch.setattr(call, crash)
        with pytest.raises(KeyboardInterrupt):
            PLAN.save(tmp_path / "plan.json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_saved_plan_replaces_the_old_and_others_may_read_it(tmp_path):
    write_atomically(tmp_path / "plan.json", "old")
    PLAN.save(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o644
    assert Plan.load(tmp_path / "plan.json") == PLAN


@pytest.mark.parametrize(
    ("mine", "theirs", "follows"),
    [
        (LayerPlan(), LayerPlan(), True),
        (LayerPlan(heads_removed=(1,)), LayerPlan(), True),
        (LayerPlan(), LayerPlan(heads_removed=(1,)), False),
        (LayerPlan("removed"), LayerPlan(heads_removed=(1,)), True),
        (LayerPlan(heads_removed=(0, 1, 2, 3)), LayerPlan("removed"), False),
        (LayerPlan(neurons_removed=((0, 16),)), LayerPlan(neurons_removed=((8, 16),)), True),
        (LayerPlan(neurons_removed=((0, 12),)), LayerPlan(neurons_removed=((8, 16),)), False),
        (LayerPlan(neurons_removed=((0, 48),)), LayerPlan(feed_forward="removed"), False),
        (LayerPlan(feed_forward="removed"), LayerPlan(neurons_removed=((0, 48),)), True),
        (LayerPlan(), LayerPlan(hard_attention=HardAttention(3)), True),
    ],
)
def test_a_plan_follows_another_where_it_keeps_nothing_that_is_gone(mine, theirs, follows):
    plans = [Plan("bert", 2, 4, 48, (layer, LayerPlan())) for layer in (mine, theirs)]
    assert plans[0].removes_all_of(plans[1]) is follows
