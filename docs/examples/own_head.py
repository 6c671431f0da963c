"""(b) A bare `AutoModel` with pooling and a head of your own: let `forward` return the logits."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoModel, BertConfig

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback

TINY = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


class Scorer(L.LightningModule):
    def __init__(self):
        super().__init__()
        # Yours: AutoModel.from_pretrained("bert-base-uncased")
        self.encoder = AutoModel.from_config(TINY, add_pooling_layer=False)
        self.head = nn.Linear(32, 1)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids, attention_mask).last_hidden_state
        mask = attention_mask[..., None]
        return self.head((hidden * mask).sum(1) / mask.sum(1)).squeeze(-1)  # (N,): regression

    def loss(self, batch):
        return nn.functional.mse_loss(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def loader(count):
    words = torch.randint(5, 100, (count, 12))
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[1] / 100} for ids in words]
    return DataLoader(rows, batch_size=16)


def main():
    L.seed_everything(0)
    module = Scorer()
    pruning = AccuracyDrivenPruningCallback(tolerance=0.1, search_dataloader=loader(64))
    trainer = L.Trainer(max_epochs=2, callbacks=[HardAttentionCallback(k=4), pruning])
    trainer.fit(module, loader(64), loader(32))
    return module


if __name__ == "__main__":
    main()
