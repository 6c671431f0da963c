"""Under which conditions a time was measured."""

import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from transformers import PreTrainedModel

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.basics.reading import names_of, read_count, read_fields, read_typed
from axformer_lightning.costs.measured import check_computes_all


@dataclass(frozen=True)
class Conditions:
    """All that a time depends on besides the plan.

    Args:
        device: name of the processor or GPU.
        torch: version of torch.
        threads: of torch.
        dtype: of the weights.
        attention: attention implementation of the model.
        model_type: family of the model.
        num_layers: layers with weights of their own.
        num_heads: heads of a layer.
        head_size: features of a head.
        intermediate_size: intermediate neurons of a layer.
        batch_size: samples of a batch.
        tokens: of a sample.
        engine: what runs the model.
    """

    device: str
    torch: str
    threads: int
    dtype: str
    attention: str
    model_type: str
    num_layers: int
    num_heads: int
    head_size: int
    intermediate_size: int
    batch_size: int
    tokens: int
    engine: str = "torch"

    @classmethod
    def of(cls, model: PreTrainedModel, batch_size: int, tokens: int) -> "Conditions":
        """Return the conditions under which ``model`` would read such a batch here and now.

        Raises:
            ValueError: if the family is unknown, or the model skips tokens by the first-token rule.

        Example:
            >>> from transformers import BertConfig, BertModel
            >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=4, intermediate_size=16)
            >>> Conditions.of(BertModel(config), batch_size=32, tokens=128).dtype
            'torch.float32'
        """
        check_computes_all(model)
        anatomy = anatomy_of(model)
        return cls(
            device=hardware_name(model.device),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            dtype=str(model.dtype),
            attention=str(model.config._attn_implementation),
            model_type=anatomy.model_type,
            num_layers=anatomy.num_layers,
            num_heads=anatomy.num_heads,
            head_size=anatomy.head_size,
            intermediate_size=anatomy.intermediate_size,
            batch_size=batch_size,
            tokens=tokens,
        )

    @classmethod
    def from_dict(cls, data: object) -> "Conditions":
        """Return the conditions that a JSON object describes.

        Raises:
            ValueError: if a field is missing, unknown or of another type.
        """
        values = read_fields(data, "conditions", names_of(cls))
        for item in fields(cls):
            if item.type in (int, "int"):
                read_count(values[item.name], f"conditions.{item.name}", 1)
            else:
                read_typed(values[item.name], str, f"conditions.{item.name}")
        return cls(**values)

    def differing(self, others: "Conditions") -> str:
        """Return what differs in ``others``, in words; nothing where all is the same.

        Example:
            >>> at = Conditions("a CPU", "2.13", 1, "torch.float32", "sdpa", "bert", 2, 4, 8, 64, 32, 128)
            >>> at.differing(Conditions(**{**vars(at), "threads": 2, "tokens": 64}))
            'threads=2 instead of 1, tokens=64 instead of 128'
        """
        mine, theirs = asdict(self), asdict(others)
        return ", ".join(
            f"{name}={theirs[name]!r} instead of {mine[name]!r}" for name in mine if mine[name] != theirs[name]
        )


def hardware_name(device: torch.device) -> str:
    """Return the name of the processor or GPU that ``device`` is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    info = Path("/proc/cpuinfo")  # Python's own `platform` does not know the name on Linux
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())
