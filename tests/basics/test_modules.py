"""What a change to modules changes, and that nothing of it is left."""

import pytest
import torch

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.basics import dropping
from axformer_lightning.hard_attention import set_hard_attention_


def trained(model, batch):
    with torch.no_grad():
        return model.train()(**{name: value for name, value in batch.items() if name != "labels"}).logits


@pytest.mark.parametrize("hard", [False, True])
def test_a_model_of_any_family_drops_what_it_is_told_to(family, tiny, batch, hard):
    shares = {"attention_probs_dropout_prob": 0.5} if family == "vit" else {"attention_dropout": 0.5}
    model = tiny.model(family, **shares)
    if hard:
        set_hard_attention_(model, [LayerPlan(hard_attention=HardAttention(4))] * 3)
    expected = model.eval()(**batch).logits.detach()
    with dropping(model, 0.0):
        assert torch.equal(trained(model, batch), expected)
    assert not torch.equal(trained(model, batch), trained(model, batch))
    torch.manual_seed(1)
    before = trained(model, batch)
    with dropping(model, None):
        torch.manual_seed(1)
        assert torch.equal(trained(model, batch), before)
    with dropping(model, 0.9):
        torch.manual_seed(1)
        assert not torch.equal(trained(model, batch), before)
    torch.manual_seed(1)
    assert torch.equal(trained(model, batch), before)
