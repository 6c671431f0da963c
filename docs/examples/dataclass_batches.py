"""(c) Batches as a dataclass, labels under a name of their own: name the fields in `forward`."""

from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForTokenClassification, BertConfig

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback

TINY = BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


@dataclass
class Batch:
    words: Tensor
    mask: Tensor
    targets: Tensor  # or labels, label, label_ids, target, y; -100 where a token has none


class Tagger(L.LightningModule):
    def __init__(self):
        super().__init__()
        # Yours: AutoModelForTokenClassification.from_pretrained("bert-base-uncased")
        self.model = AutoModelForTokenClassification.from_config(TINY)

    def forward(self, words, mask):
        return self.model(words, mask).logits

    def loss(self, batch):
        return nn.functional.cross_entropy(self(batch.words, batch.mask).transpose(1, 2), batch.targets)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=len(batch.words))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def collate(rows):
    words = torch.stack(rows)
    return Batch(words, torch.ones_like(words), (words > 50).long())


def loader(count):
    return DataLoader(torch.randint(5, 100, (count, 12)), batch_size=16, collate_fn=collate)


def main():
    L.seed_everything(0)
    module = Tagger()
    pruning = AccuracyDrivenPruningCallback(tolerance=0.1, search_dataloader=loader(64))
    trainer = L.Trainer(max_epochs=2, callbacks=[HardAttentionCallback(k=4), pruning])
    trainer.fit(module, loader(64), loader(32))
    return module


if __name__ == "__main__":
    main()
