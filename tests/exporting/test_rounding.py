"""Products of a graph in int8, of modules that no family has."""

import numpy as np
import onnx_ir
import onnxruntime
import torch
from torch import nn

from axformer_lightning.exporting.formats import exact_options
from axformer_lightning.exporting.rounding import round_graph_
from axformer_lightning.int8.rounding import rounded_activations, rounded_weight

RANGES = {"narrow": (-0.5, 0.5), "wide": (-4.0, 4.0)}


class Two(nn.Module):
    """Two linear layers that read the same."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.narrow(x), self.wide(x)


def test_layers_that_read_the_same_have_ranges_of_their_own(tmp_path):
    torch.manual_seed(0)
    module, x = Two().eval(), torch.randn(4, 8)
    model = torch.onnx.export(module, (x,), dynamo=True, verbose=False).model
    round_graph_(model, dict(module.named_children()), RANGES)
    onnx_ir.save(model, tmp_path / "two.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "two.onnx", exact_options(), providers=["CPUExecutionProvider"])
    given = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for (name, linear), found in zip(module.named_children(), given, strict=True):
        expected = nn.functional.linear(
            rounded_activations(x, RANGES[name]), rounded_weight(linear.weight), linear.bias
        )
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)
