"""What repair saves, block by block, on a fine-tuned classifier; nothing is trained.

`python docs/examples/repair.py MODEL GLUE_DIR ROWS.json` (the file names rows of train: `rows` and `all_held_out`)
"""

import sys
import time

import torch

from axformer_lightning.anatomy import anatomy_of
from axformer_lightning.gates import closed
from axformer_lightning.repair import block_order, measure_moments, repaired_as
from axformer_lightning.replay import scoring
from axformer_lightning.scoring import BATCH_TOKENS, step_of
from axformer_lightning.sweeps import batches_of, labelled_rows, rows_in
from axformer_lightning.tasks import TASKS, load_model

LENGTH = 128
LEFT = {"attention": (3, 1, 0), "feed_forward": (384, 96, 0)}  # units left of a block


def main(directory, data_dir, row_file, task="mrpc"):
    torch.set_num_threads(1)
    model, tokenizer = load_model(TASKS[task], pretrained=directory, max_length=LENGTH)
    train = labelled_rows(task, data_dir).train
    held_out = set(rows_in(f"{row_file}:all_held_out", len(train)))
    seen = [row for row in range(len(train)) if row not in held_out][:1024]
    measured, tried = (
        batches_of(train.select(rows), tokenizer, LENGTH, BATCH_TOKENS)
        for rows in (seen, rows_in(f"{row_file}:rows", len(train)))
    )
    model.eval()
    moments = timed("moments", lambda: measure_moments(model, model, measured))
    blocks = [(i, block) for i in range(anatomy_of(model).num_layers) for block in anatomy_of(model).blocks]
    orders = timed("orders", lambda: {at: block_order(model, moments, at[0], at[1].kind) for at in blocks})
    base_N = losses(model, tried)
    print(f"{moments.of(0, 'attention').tokens} tokens; loss of {len(base_N)} samples {base_N.mean():.4f}; changes:")
    print("| block | left | cut | cut and repaired |\n|---|---|---|---|")
    for i, block in blocks:
        for count in LEFT[block.kind]:
            layers = list(anatomy_of(model).dense_layers())
            layers[i] = block.keeping(layers[i], orders[i, block].kept(count))
            if count == 0:
                layers[i] = (
                    layers[i].without_attention() if block.kind == "attention" else layers[i].without_feed_forward()
                )
            with closed(model, layers):
                cut = change(losses(model, tried), base_N)
            with repaired_as(model, layers, moments):
                repaired = change(losses(model, tried), base_N)
            print(f"| {block.kind.replace('_', '-')} {i} | {count} | {cut} | {repaired} |", flush=True)


def losses(model, batches):
    step = step_of(model)
    with scoring(model, model):
        return torch.cat([step(batch).loss_N for batch in batches])


def change(loss_N, base_N):
    """The mean change of the loss, and its standard error over samples."""
    change_N = loss_N - base_N
    return f"{change_N.mean():+.3f} ± {change_N.std() / len(change_N) ** 0.5:.3f}"


def timed(what, run):
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    print(f"{what}: {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU", flush=True)
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
