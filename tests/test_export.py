"""Hard attention is in a graph that was made with a short example, at every length."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from axformer_lightning import apply_plan_
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.plan import plan_of

pytestmark = [
    pytest.mark.one_implementation,
    pytest.mark.filterwarnings(
        "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor"),
]
K = 6


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def trace(module, example):
    return torch.jit.trace(module, example, strict=False, check_trace=False)


def export(module, example):
    length = torch.export.Dim("length", min=2, max=60)
    return torch.export.export(module, example, dynamic_shapes=({1: length}, {1: length}), strict=False).module()


def texts(length):
    words = torch.randint(5, 50, (3, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(words)
    mask[0, length // 2 + 1 :] = 0
    return words, mask


@pytest.fixture
def hard(request, tiny):
    """A model of a family inside and one outside of the attention interface, hard in every layer but the last."""
    model = tiny.model(request.param, None if request.param == "deberta-v2" else "sdpa")
    layer = LayerPlan(hard_attention=HardAttention(K, renormalize=request.param == "bert"))
    return Logits(apply_plan_(model, replace(plan_of(model), layers=(layer, layer, LayerPlan()))))


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    ("hard", "make", "example"),
    [("bert", trace, 4), ("bert", trace, 12), ("bert", export, 4), ("bert", export, 12), ("deberta-v2", trace, 4)],
    indirect=["hard"],
)
def test_a_graph_is_the_model_at_lengths_on_both_sides_of_k(hard, make, example):
    with torch.no_grad():
        graph = make(hard, texts(example))
        for length in (3, K, K + 1, 20):
            torch.testing.assert_close(graph(*texts(length)), hard(*texts(length)), rtol=1e-4, atol=1e-4)
