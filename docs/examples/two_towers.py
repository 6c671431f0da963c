"""(d) Two towers that share one encoder: `forward` for a similarity, `axformer_step` for a contrastive loss."""

import lightning as L
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoModel, BertConfig

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback

TINY = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


class Similarity(L.LightningModule):
    """Cosine of two texts, trained and searched as a regression on `labels`."""

    def __init__(self):
        super().__init__()
        # Yours: AutoModel.from_pretrained("bert-base-uncased")
        self.encoder = AutoModel.from_config(TINY, add_pooling_layer=False)

    def embed(self, input_ids):
        return functional.normalize(self.encoder(input_ids).last_hidden_state.mean(1), dim=-1)

    def forward(self, input_ids_a, input_ids_b):
        return (self.embed(input_ids_a) * self.embed(input_ids_b)).sum(-1)

    def loss(self, batch):
        return functional.mse_loss(self(batch["input_ids_a"], batch["input_ids_b"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Contrastive(Similarity):
    """Each text has to find its partner among those of the batch: no labels, so the module scores itself."""

    axformer_losses_nonnegative = True  # a cross-entropy; lets the search stop hopeless candidates early

    def axformer_step(self, batch):
        scores = self.embed(batch["input_ids_a"]) @ self.embed(batch["input_ids_b"]).T / 0.1
        partners = torch.arange(len(scores), device=scores.device)
        return functional.cross_entropy(scores, partners, reduction="none"), scores.argmax(-1), partners

    def loss(self, batch):
        return self.axformer_step(batch)[0].mean()


def loader(count):
    a, b = torch.randint(5, 100, (2, count, 12))
    b[:, :9] = a[:, :9]
    rows = [{"input_ids_a": x, "input_ids_b": y, "labels": y[9] / 100} for x, y in zip(a, b, strict=True)]
    return DataLoader(rows, batch_size=16)


def main(module_class=Contrastive):
    L.seed_everything(0)
    module = module_class()
    pruning = AccuracyDrivenPruningCallback(tolerance=0.1, search_dataloader=loader(64))
    trainer = L.Trainer(max_epochs=2, callbacks=[HardAttentionCallback(k=4), pruning])
    trainer.fit(module, loader(64), loader(32))
    return module


if __name__ == "__main__":
    main()
