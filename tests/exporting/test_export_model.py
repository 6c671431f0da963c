"""What is exported gives the logits of the model, at every length and batch size, whatever was cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from axformer_lightning import apply_plan_, export_model
from axformer_lightning.anatomy import BLOCKS, BlockRanges, HardAttention, LayerPlan
from axformer_lightning.exporting import FORMATS, read_exported
from axformer_lightning.exporting.export import int8_names
from axformer_lightning.int8 import set_int8_
from axformer_lightning.int8.rounding import to_int8
from axformer_lightning.plan import plan_of
from tests.conftest import EAGER_ONLY, LAYOUTS
from tests.models import TINY, make_batch

K = 6
CUT = (
    LayerPlan(heads_removed=(1,), neurons_removed=((0, 16),), hard_attention=HardAttention(K)),
    LayerPlan(attention="removed"),
    LayerPlan(feed_forward="removed", hard_attention=HardAttention(K, renormalize=True)),
)
EMPTY = (
    LayerPlan(heads_removed=(0, 1, 2, 3)),
    LayerPlan(neurons_removed=((0, 48),), hard_attention=HardAttention(K)),
    LayerPlan(heads_removed=(0, 1, 3)),
)
RANGES = {kind: BlockRanges(kind, (-3.0, 3.5), (-1.0, 2.0)) for kind in BLOCKS}
INT8 = (  # some of it, dynamic and static
    CUT[0].in_int8("embeddings").in_int8("attention"),
    CUT[1].in_int8("feed_forward", RANGES["feed_forward"]),
    LayerPlan(),
)
STATIC = tuple(
    layer.in_int8("attention", RANGES["attention"]).in_int8("feed_forward", RANGES["feed_forward"])
    for layer in (LayerPlan(heads_removed=(1,)), LayerPlan(), LayerPlan(neurons_removed=((8, 16),)))
)
EVERYTHING = LayerPlan(int8=("attention", "feed_forward"))
PLANS = {"cut": CUT, "no units left": EMPTY, "dense": (LayerPlan(),) * 3}


def inputs(family, batch_size, length):
    if family == "vit":
        generator = torch.Generator().manual_seed(batch_size)
        return {"pixel_values": torch.randn(batch_size, 3, 8, 8, generator=generator)}
    lengths = [length, *(max(2, length - 1 - i) for i in range(batch_size - 1))]
    batch = make_batch(lengths, pad_token_id=TINY[family].get("pad_token_id", 0), seed=length)
    types = (torch.arange(length) > length // 2).long()[None].expand(batch_size, -1)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "token_type_ids": types}


def largest_difference(model, exported, family, sizes=((1, 3), (7, K), (7, K + 1), (1, 20), (7, 40))):
    differences = []
    for batch_size, length in sizes:
        batch = inputs(family, batch_size, length)
        read = {name: value for name, value in batch.items() if name in exported.notes.inputs}
        with torch.no_grad():
            expected = model(**read).logits.numpy()
        got = exported({name: value.numpy() for name, value in batch.items()})["logits"]
        assert got.shape == expected.shape
        differences.append(np.abs(got - expected).max())
    return max(differences)


def cut(tiny, family, implementation, layers, **config):
    model = tiny.model(family, implementation, **config)
    return apply_plan_(model, replace(plan_of(model), layers=layers)).eval()


def cases():
    """Every format, family and plan; those that run by default are one of each, as an export takes seconds."""
    default = {("onnx", "bert", "cut"), ("onnx", "modernbert", "no units left"), ("torch", "bert", "cut")}
    for name in FORMATS:
        for family in TINY:
            for plan in PLANS:
                marks = () if (name, family, plan) in default else pytest.mark.exhaustive
                yield pytest.param(name, family, plan, id=f"{name}-{family}-{plan}", marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family", "plan"), [*cases()])
def test_exported_logits_are_those_of_the_model(tiny, tmp_path, name, family, plan):
    if name != "torch":
        pytest.importorskip(name)
    model = cut(tiny, family, "eager" if family in EAGER_ONLY else "sdpa", PLANS[plan])
    path = export_model(model, tmp_path / f"model{FORMATS[name].suffix}")
    assert largest_difference(model, read_exported(path, threads=1), family) < 1e-4


def int8_cases():
    yield pytest.param("bert", "onnx", INT8, id="bert-some")
    for family in (*LAYOUTS, "vit"):
        yield pytest.param(family, "onnx", (EVERYTHING,) * 3, id=f"{family}-all", marks=pytest.mark.exhaustive)
    yield pytest.param("bert", "onnx", STATIC, id="bert-static", marks=pytest.mark.exhaustive)
    yield pytest.param("bert", "openvino", INT8, id="bert-openvino", marks=pytest.mark.exhaustive)
    yield pytest.param("bert", "openvino", STATIC, id="bert-openvino-static", marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name", "layers"), [*int8_cases()])
def test_int8_logits_are_those_of_the_model_in_int8(tiny, tmp_path, family, name, layers):
    """A value that lies between two steps may fall to either side: hence a bound beside what int8 itself changes."""
    pytest.importorskip(name)
    check_int8(cut(tiny, family, "eager", layers), tmp_path / f"model{FORMATS[name].suffix}", family)


def check_int8(model, path, family):
    exported = read_exported(export_model(model, path), threads=1)
    by_engine = largest_difference(model, exported, family)
    set_int8_(model, [LayerPlan()] * plan_of(model).num_layers)
    by_rounding = largest_difference(model, exported, family)
    assert by_engine < by_rounding / 5


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("family", "config"), [("albert", {"num_hidden_groups": 1}), ("deberta-v2", {"share_att_key": True})]
)
@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("layer", [STATIC[1], EVERYTHING], ids=["static", "dynamic"])
def test_int8_layers_may_be_applied_several_times(tiny, tmp_path, family, config, name, layer):
    pytest.importorskip(name)
    layers = (layer,) * (1 if family == "albert" else 3)
    model = cut(tiny, family, "eager", layers, **config)
    check_int8(model, tmp_path / f"model{FORMATS[name].suffix}", family)


def test_true_puts_all_blocks_and_the_embeddings_in_int8_unless_the_plan_says_which(tiny):
    layers = (LayerPlan(attention="removed"), LayerPlan(heads_removed=(0, 1, 2, 3)), LayerPlan(feed_forward="removed"))
    model = cut(tiny, "bert", "eager", layers)
    assert len(int8_names(model, True)) == 1 + 2 + 2 + 4
    assert "bert.embeddings.word_embeddings" in int8_names(model, True)
    assert int8_names(model, None) == int8_names(model, False) == ()
    model = cut(tiny, "bert", "eager", INT8)
    assert int8_names(model, True) == int8_names(model, None) != ()


@pytest.mark.slow
def test_names_say_what_is_in_int8(tiny, tmp_path):
    wanted = ["bert.encoder.layer.0.attention.self.key", "classifier", "bert.embeddings.word_embeddings"]
    model = tiny.model("bert", "sdpa", num_hidden_layers=1)
    path = export_model(model, tmp_path / "model.onnx", int8=wanted)
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert sorted(stored) == sorted(f"{name}.weight_int8" for name in wanted)
    assert tuple(read_exported(path).notes.int8) == tuple(wanted)
    words = onnx.numpy_helper.to_array(stored["bert.embeddings.word_embeddings.weight_int8"])
    expected, _ = to_int8(model.get_input_embeddings().weight)
    assert np.array_equal(words, expected.numpy())
