"""What is exported gives the logits of the model, at every length and batch size, whatever was cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from axformer_lightning import apply_plan_, export_model
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.exporting import FORMATS, read_exported
from axformer_lightning.plan import plan_of
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
INT8 = (CUT[0].in_int8("embeddings").in_int8("attention"), CUT[1].in_int8("feed_forward"), LayerPlan())
PLANS = {"cut": CUT, "no units left": EMPTY, "dense": (LayerPlan(),) * 3}
one_family, one_implementation = pytest.mark.one_family, pytest.mark.one_implementation


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


def cut(tiny, family, implementation, layers):
    model = tiny.model(family, implementation)
    return apply_plan_(model, replace(plan_of(model), layers=layers)).eval()


CASES = [
    pytest.param("onnx", "cut"),
    pytest.param("onnx", "no units left", marks=one_family),
    pytest.param("onnx", "dense", marks=one_family),
    *(
        pytest.param(name, plan, marks=one_family)
        for name in ("openvino", "torch")
        for plan in ("cut", "no units left")
    ),
]


@one_implementation
@pytest.mark.parametrize(("name", "plan"), CASES)
def test_exported_logits_are_those_of_the_model(tiny, tmp_path, family, implementation, name, plan):
    if name != "torch":
        pytest.importorskip(name)
    model = cut(tiny, family, implementation, PLANS[plan])
    path = export_model(model, tmp_path / f"model{FORMATS[name].suffix}")
    assert largest_difference(model, read_exported(path, threads=1), family) < 1e-4
