"""Take the labels of public data out of kept predictions, or put them back, so that records can be published without.

python docs/examples/labels.py RECORDS            # out
python docs/examples/labels.py RECORDS GLUE_DIR   # back, from the dev files there
"""

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np

from axformer_lightning.evidence.predictions import FILE, Predictions
from axformer_lightning.sweeps import labelled_rows

records, data = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None


@cache
def labels_of(task: str, suffix: str) -> np.ndarray:
    return np.asarray(labelled_rows(task, data).dev[suffix]["label"])


for file in records.rglob(f"{FILE}*.npz"):
    folder, suffix = file.parent, file.stem.removeprefix(FILE)
    arrays = {name: array for name, array in Predictions.load(folder, suffix).arrays.items() if name != "labels"}
    if data is not None:
        task = json.loads((folder.parent / "results.json").read_text(encoding="utf-8"))["task"]
        arrays = {"labels": labels_of(task, suffix), **arrays}
    Predictions(arrays).save(folder, suffix)
