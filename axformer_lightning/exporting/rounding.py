"""Products and look-ups of an ONNX graph in int8: what `axformer_lightning.int8` computes, by operators of ONNX.

`onnxruntime.quantization` would round the same products to the same grids, but a table of embeddings to one step
for all rows, and it does not say which module of torch a product came from. The exporter does.

Static int8 has two forms. Of whole numbers, as the dynamic one: nothing that fuses operators for ONNX Runtime takes it
for attention in floats. And of floats between `QuantizeLinear` and `DequantizeLinear`, of which OpenVINO makes products
of whole numbers; it knows no fast form of the dynamic one.

Shape suffixes: ``O`` rows of a weight, ``I`` its columns.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from axformer_lightning.int8.rounding import grid_of, to_int8

SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules around an operator


def round_graph_(
    model: Any,
    modules: Mapping[str, nn.Module],
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    *,
    between_floats: bool = False,
) -> None:
    """Put products and look-ups of ``modules`` in int8, in place.

    Args:
        model: an `onnx_ir.Model`, as exported and before operators are fused.
        modules: linear layers and embeddings, by their names in the model that was exported.
        ranges: of what those linear layers read that are in static int8, by name.
        between_floats: whether these are products of floats, between `QuantizeLinear` and `DequantizeLinear`.

    Raises:
        ValueError: if the graph has no product or look-up of a module.
    """
    import onnx_ir as ir

    graph, found = model.graph, set()
    read: dict[tuple[Any, Any], Any] = {}
    tables: dict[str, tuple[Any, Any]] = {}
    grids: dict[tuple[float, float], list[Any]] = {}
    for node in [node for node in graph if node.op_type in ("MatMul", "Gemm", "Gather")]:
        name = _module_of(node)
        if name not in modules or (node.op_type == "Gather") != isinstance(modules[name], nn.Embedding):
            continue
        if name not in tables:
            tables[name] = _stored(graph, name, modules[name])
        tape = ir.tape.Tape()
        if node.op_type == "Gather":
            new = _look_up(tape, node.inputs[1], *tables[name])
        else:
            x, range_ = node.inputs[0], ranges.get(name)
            if (x, range_) not in read:  # query, key and value read the same
                if range_ is not None and range_ not in grids:
                    grids[range_] = _grid(graph, name, range_)
                read[x, range_] = _dynamic(tape, x) if range_ is None else _static(tape, x, grids[range_])
            product = _product_of_floats if between_floats and range_ else _product
            new = product(tape, read[x, range_], *tables[name])
            if node.op_type == "Gemm" and len(node.inputs) > 2:  # the exporter leaves out a bias of zeros
                new = tape.op("Add", [new, node.inputs[2]])
        old = node.outputs[0]
        new.name, new.shape, new.dtype = old.name, old.shape, old.dtype
        graph.insert_before(node, tape.nodes)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        found.add(name)
    if lost := sorted(set(modules) - found):
        raise ValueError(
            f"Expected a product or a look-up of each module that is to be in int8, got none of {lost[:3]} in the"
            " exported graph. Leave these out."
        )
    ir.passes.common.RemoveUnusedNodesPass()(model)


def part_weights_(model: Any) -> None:
    """Give each product of whole numbers a weight of its own, also where a layer is applied several times, in place.

    ONNX Runtime, asked for exact products, puts another weight in the place of each product's, and fails at one that it
    has replaced already. The file has no copies: all rows are cut out of the one weight, which a session does once, as
    it starts. Each time they end elsewhere, as it would make one of operators that are alike.

    Args:
        model: an `onnx_ir.Model`, after operators are fused: that takes such a cut away.
    """
    import onnx_ir as ir

    graph, products = model.graph, Counter[Any]()
    for node in [node for node in graph if node.op_type == "MatMulInteger"]:
        weight_IO = node.inputs[1]
        if count := products[weight_IO]:
            start, end = (
                _put(graph, f"{weight_IO.name}_{name}_{count}", np.array([value], dtype=np.int64))
                for name, value in (("start", 0), ("end", weight_IO.shape[0] + count))
            )
            tape = ir.tape.Tape()
            node.replace_input_with(1, tape.op("Slice", [weight_IO, start, end]))
            graph.insert_before(node, tape.nodes)
        products[weight_IO] += 1


def _module_of(node: Any) -> str:
    scopes = node.metadata_props.get(SCOPES, "")
    return str(scopes.split("'")[-4]) if scopes.count("'") >= 4 else ""


def _stored(graph: Any, name: str, module: nn.Module) -> tuple[Any, Any]:
    weight_OI, step_O1 = (tensor.numpy() for tensor in to_int8(module.weight))  # type: ignore[arg-type]
    if isinstance(module, nn.Embedding):
        return _put(graph, f"{name}.weight_int8", weight_OI), _put(graph, f"{name}.weight_step", step_O1)
    return _put(graph, f"{name}.weight_int8", weight_OI.T), _put(graph, f"{name}.weight_step", step_O1[:, 0])


def _put(graph: Any, name: str, array: np.ndarray) -> Any:
    import onnx_ir as ir

    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array)))
    value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def _look_up(tape: Any, ids: Any, weight_OI: Any, step_O1: Any) -> Any:
    import onnx_ir as ir

    whole = tape.op("Cast", [tape.op("Gather", [weight_OI, ids])], attributes={"to": ir.DataType.FLOAT})
    return tape.op("Mul", [whole, tape.op("Gather", [step_O1, ids])])


def _dynamic(tape: Any, x: Any) -> Any:
    return tape.op_multi_out("DynamicQuantizeLinear", [x], num_outputs=3)


def _static(tape: Any, x: Any, grid: list[Any]) -> Any:
    return tape.op("QuantizeLinear", [x, *grid]), *grid


def _grid(graph: Any, name: str, range_: tuple[float, float]) -> list[Any]:
    step, zero = (value.numpy() for value in grid_of(*torch.tensor(range_)))
    return [_put(graph, f"{name}.step", step), _put(graph, f"{name}.zero", zero.astype(np.uint8))]


def _product_of_floats(tape: Any, read: Any, weight_IO: Any, step_O: Any) -> Any:
    weight = tape.op("DequantizeLinear", [weight_IO, step_O], attributes={"axis": 1})
    return tape.op("MatMul", [tape.op("DequantizeLinear", read), weight])


def _product(tape: Any, read: Any, weight_IO: Any, step_O: Any) -> Any:
    import onnx_ir as ir

    whole, step, zero = read  # in the order that ONNX Runtime makes one operator of
    product = tape.op(
        "Cast", [tape.op("MatMulInteger", [whole, weight_IO, zero])], attributes={"to": ir.DataType.FLOAT}
    )
    return tape.op("Mul", [product, tape.op("Mul", [step, step_O])])
