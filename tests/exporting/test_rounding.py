"""Products of a graph in int8, of modules that no family has."""

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import nn

from axformer_lightning.exporting.formats import exact_options
from axformer_lightning.exporting.rounding import part_weights_, round_graph_
from axformer_lightning.int8.rounding import rounded_activations, rounded_weight

RANGES = {"narrow": (-0.5, 0.5), "wide": (-4.0, 4.0)}


class Two(nn.Module):
    """Two linear layers that read the same."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.narrow(x), self.wide(x)


class Again(nn.Module):
    """A linear layer that is applied three times."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        y = self.linear(x)
        return y, self.linear(x - 1), self.linear(y)


class Outputs(nn.Module):
    """A linear layer without a bias to speak of, whose product is what the graph gives."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(x)


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(4, 8)


def in_onnx(module, x, path, ranges):
    """Return the names of what a module gives in int8 by ONNX Runtime, and that; its file is ``path``."""
    model = torch.onnx.export(module.eval(), (x,), dynamo=True, verbose=False).model
    round_graph_(model, dict(module.named_children()), ranges)
    part_weights_(model)
    onnx_ir.save(model, path)
    session = onnxruntime.InferenceSession(path, exact_options(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return names, session.run(None, {session.get_inputs()[0].name: x.numpy()})


def by_torch(linear, x, range_=None):
    rounded = nn.functional.linear(rounded_activations(x, range_), rounded_weight(linear.weight), linear.bias)
    return rounded.detach()


@pytest.mark.slow
def test_layers_that_read_the_same_have_ranges_of_their_own(x, tmp_path):
    module = Two()
    _, given = in_onnx(module, x, tmp_path / "two.onnx", RANGES)
    for (name, linear), found in zip(module.named_children(), given, strict=True):
        np.testing.assert_allclose(found, by_torch(linear, x, RANGES[name]).numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("range_", [None, (-4.0, 4.0)])
def test_a_layer_may_be_applied_several_times(x, tmp_path, range_):
    module, path = Again(), tmp_path / "again.onnx"
    ranges = {"linear": range_} if range_ else {}
    _, given = in_onnx(module, x, path, ranges)
    y = by_torch(module.linear, x, range_)
    expected = y, by_torch(module.linear, x - 1, range_), by_torch(module.linear, y, range_)
    for one, found in zip(expected, given, strict=True):
        np.testing.assert_allclose(found, one.numpy(), atol=1e-5)
    stored = [
        name for name, value in onnx_ir.load(path).graph.initializers.items() if value.dtype == onnx_ir.DataType.INT8
    ]
    assert stored == ["linear.weight_int8"]


@pytest.mark.slow
def test_the_last_layer_may_have_a_bias_of_zeros_and_outputs_keep_their_names(x, tmp_path):
    module = Outputs()
    exported = torch.onnx.export(module.eval(), (x,), dynamo=True, verbose=False).model
    outputs = [output.name for output in exported.graph.outputs]
    names, (given,) = in_onnx(module, x, tmp_path / "outputs.onnx", {})
    assert names == outputs
    np.testing.assert_allclose(given, by_torch(module.linear, x).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("capabilities", "exact"), [({"avx512_vnni": True}, "0"), ({"avx_vnni": False}, "1"), (None, "1")]
)
def test_slower_products_are_asked_for_where_the_faster_ones_overflow(monkeypatch, capabilities, exact):
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert exact_options().get_session_config_entry("session.x64quantprecision") == exact
