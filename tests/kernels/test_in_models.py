"""Models attend by the kernel where they may, alike to torch's operators, also compiled and exported."""

import pytest
import torch
from torch import nn

from axformer_lightning import kernels
from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.hard_attention import eager_attention, set_hard_attention_
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler, or it fails")
INTERFACE = ["bert", "distilbert", "modernbert", "albert"]


@pytest.fixture
def calls(count_calls):
    return count_calls("hard_attention")


@pytest.fixture
def hard(tiny, family, implementation):
    model = tiny.model(family, implementation)
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3))] * 3)
    return model


@pytest.mark.parametrize("family", INTERFACE, indirect=True)
@pytest.mark.parametrize("renormalize", [False, True])
def test_the_logits_are_those_without_the_kernel(tiny, family, batch, logits, calls, renormalize):
    model = tiny.model(family, "sdpa")
    set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(3, renormalize))] * 3)
    with kernels.switched_off():
        expected = logits(model, batch)
    assert not calls
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-4, atol=1e-4)
    assert len(calls) == 3


@pytest.mark.parametrize("family", ["bert"], indirect=True)
def test_layers_with_different_numbers_of_heads(tiny, family, batch, logits, calls):
    hard = HardAttention(3)
    layers = (
        LayerPlan(hard_attention=hard),
        LayerPlan(heads_removed=(0, 2, 3), hard_attention=hard),
        LayerPlan("removed"),
    )
    model = apply_plan_(tiny.model(family, "sdpa"), Plan(family, 3, 4, 48, layers))
    with kernels.switched_off():
        expected = logits(model, batch)
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-4, atol=1e-4)
    assert len(calls) == 2


@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize("implementation", ["eager"])
def test_eager_models_and_so_every_search_attend_without_it(hard, batch, logits, calls):
    logits(hard, batch)
    assert not calls


@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize("implementation", ["sdpa"])
def test_it_is_used_only_where_it_can_be(hard, batch, calls, monkeypatch):
    with torch.no_grad(), eager_attention(hard):
        hard(**batch)
    with torch.no_grad():
        hard(**batch, output_attentions=True)
        with monkeypatch.context() as patch:
            patch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
            hard(**batch)
        hard.to(torch.bfloat16)(**batch)
    hard.float()(**batch).loss.backward()  # gradients
    hard.train()
    with torch.no_grad():
        hard(**batch)  # dropout
    assert not calls
    hard.eval()
    with torch.inference_mode():
        hard(**batch)
    assert len(calls) == 3


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize("implementation", ["sdpa"])
def test_an_exported_model_runs_at_lengths_on_both_sides_of_k(hard):
    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = hard

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).logits

    def batch(length):
        ids, mask = torch.randint(5, 50, (2, length)), torch.ones(2, length, dtype=torch.int64)
        mask[1, length - length // 3 :] = 0
        return ids, mask

    tokens = torch.export.Dim("tokens", min=2, max=64)
    with torch.no_grad():
        exported = torch.export.export(Logits(), batch(9), dynamic_shapes=({1: tokens}, {1: tokens}), strict=False)
        assert "axformer_lightning.hard_attention" in str(exported.graph)
        for length in (2, 3, 4, 20):
            args = batch(length)
            torch.testing.assert_close(exported.module()(*args), Logits()(*args), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize("implementation", ["sdpa"])
def test_torch_compile_takes_it_as_a_whole(hard):
    attention = hard.bert.encoder.layer[0].attention
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    for length in (3, 9):
        x = torch.randn(2, length, 32)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x)[0], attention(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["bert"], indirect=True)
@pytest.mark.parametrize("implementation", ["sdpa"])
@pytest.mark.filterwarnings("ignore:`torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_a_traced_model_has_torchs_operators_only(hard):
    attention = hard.bert.encoder.layer[0].attention
    with torch.no_grad():
        traced = torch.jit.trace(attention, torch.randn(1, 9, 32), strict=False)
    assert "axformer_lightning::" not in str(traced.inlined_graph)
