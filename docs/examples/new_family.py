"""A family that is not built in: ESM, a protein encoder with a norm before each block."""

import torch
from transformers import EsmConfig, EsmForSequenceClassification

from axformer_lightning import apply_plan_, find_plan
from axformer_lightning.anatomy import Family, register_family

register_family(
    "esm",
    Family(
        layers="encoder.layer",
        self_attention="attention.self",
        head_in_projections=("attention.self.query", "attention.self.key", "attention.self.value"),
        head_out_projection="attention.output.dense",
        neuron_in_projections=("intermediate.dense",),
        neuron_out_projection="output.dense",
        attention_modules={"attention.LayerNorm": 1, "attention.self": 2, "attention.output.dense": 1},
        feed_forward_modules={"LayerNorm": 1, "intermediate": 1, "output.dense": 1},
    ),
)


def main() -> EsmForSequenceClassification:
    """Search a tiny model with random weights, and cut it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokens = {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32, "position_embedding_type": "rotary"}
    config = EsmConfig(**sizes, **tokens, num_labels=2)
    model = EsmForSequenceClassification(config).eval()
    proteins = torch.randint(4, 24, (16, 20))
    batch = {"input_ids": proteins, "labels": proteins[:, 0] % 2}
    plan = find_plan(model, [batch], hard_attention_k=8, neuron_groups=4, majority=0, tolerance=0.05)
    return apply_plan_(model, plan)


if __name__ == "__main__":
    print(main().axformer_plan.to_json())
