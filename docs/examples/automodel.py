"""(a) An `AutoModelFor...`, whose output carries logits: nothing to add."""

import lightning as L
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, BertConfig

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback

TINY = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        # Yours: AutoModelForSequenceClassification.from_pretrained("bert-base-uncased")
        self.model = AutoModelForSequenceClassification.from_config(TINY)

    def forward(self, **batch):
        return self.model(**batch)

    def training_step(self, batch, batch_idx):
        return self(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self(**batch).loss)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def loader(count):
    words = torch.randint(5, 100, (count, 12))
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": int(ids[1] > 50)} for ids in words]
    return DataLoader(rows, batch_size=16)


def main():
    L.seed_everything(0)
    module = Classifier()
    pruning = AccuracyDrivenPruningCallback(tolerance=0.1, search_dataloader=loader(64))
    trainer = L.Trainer(max_epochs=2, callbacks=[HardAttentionCallback(k=4), pruning])
    trainer.fit(module, loader(64), loader(32))
    return module


if __name__ == "__main__":
    main()
