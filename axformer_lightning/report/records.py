"""What run directories hold, read for a report; whatever is missing or broken is said and not guessed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from axformer_lightning.plan import Plan

DONE, UNFINISHED, FAILED = "done", "unfinished", "failed"
SIGNS = ("results.json", ".resume/run.json", ".hydra/config.yaml", "state.json")  # of a run's directory


@dataclass(frozen=True)
class Model:
    """One model that a run has made.

    Args:
        label: tells it from the run's other models; empty for an only one.
        folder: holds the model and its dev predictions.
        metrics: on the dev set.
        costs: `encoder` and `file` as shares of the dense model's, `latency_ms` by batch where it was measured.
    """

    label: str
    folder: Path
    metrics: Mapping[str, float]
    costs: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """One run, as its directory tells it.

    Args:
        directory: of the run.
        name: the directory's name, from the one that is reported on.
        state: `done` only with all results; else what the run says of itself, or `unfinished`.
        reason: the last line of what went wrong, if known.
        overrides: as given on the command line.
        config: the resolved configuration.
        results: content of results.json.
        models: made by the run, the dense one not among them.
        environment: content of environment.json.
        plan: what is left of the last model.
        damage: content of damage.json.
        notes: what could not be read.
    """

    directory: Path
    name: str
    state: str
    reason: str = ""
    overrides: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[Model, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    damage: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether its numbers count."""
        return self.state == DONE

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.results.get("task") or self.config.get("task", {}).get("name", "unknown"))

    @property
    def model(self) -> str:
        """The name of the pre-trained model."""
        named = self.results.get("model") or self.config.get("model", {}).get("pretrained") or "tiny"
        return Path(named).name if Path(named).is_absolute() else str(named)

    @property
    def seed(self) -> int | None:
        """The seed, None where nothing says it."""
        seed: int | None = self.results.get("seed", self.config.get("seed"))
        return seed

    @property
    def headline(self) -> str:
        """The metric that counts."""
        metrics = self.results.get("baseline", {}).get("metrics", {"metric": 0})
        return str(self.config.get("task", {}).get("headline") or next(iter(metrics)))

    @property
    def expected(self) -> list[str]:
        """The labels of the models that the run makes, or would have."""
        ratios = [] if self.is_dense else _ratios(self.config)
        return [f"{ratio:g}x" for ratio in ratios] if len(ratios) > 1 else [""]

    @property
    def is_dense(self) -> bool:
        """Whether nothing was cut, and the dense model trained on by the recipe of the others."""
        return bool(self.config.get("retrain_dense"))


def read_records(directory: Path) -> list[Record]:
    """Return the runs in a directory, or the one that it is of, in the order of their names.

    Args:
        directory: of a run, or of a sweep, at any depth.

    Raises:
        FileNotFoundError: if there is no such directory.
        ValueError: if it holds no run.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"Expected the directory of a run or a sweep, found none at {str(directory)!r}.")
    records = [_record(found, found.relative_to(directory).as_posix()) for found in _directories(directory)]
    if not records:
        raise ValueError(
            f"Expected runs in {str(directory)!r}, found none: no directory in it holds one of {', '.join(SIGNS)}."
            " Pass the directory that `train.py` printed, or one around several of them."
        )
    return records


def _directories(directory: Path) -> Iterator[Path]:
    """Yield the directories of runs; what is inside of one belongs to it."""
    if any((directory / sign).exists() for sign in SIGNS):
        yield directory
        return
    for inner in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)):
        if inner.is_dir() and not inner.name.startswith("."):
            yield from _directories(inner)


def _record(directory: Path, name: str) -> Record:
    read = _Reader(directory)
    results, said = read.mapping("results.json"), read.mapping("state.json")
    finished = all(isinstance(results.get(side), dict) for side in ("baseline", "axformer"))
    state = str(said.get("state", DONE if finished else UNFINISHED))
    if state == DONE and not finished:
        state = UNFINISHED
    plan = None
    if (directory / "plan.json").exists():
        try:
            plan = Plan.load(directory / "plan.json")
        except ValueError as error:
            read.notes.append(str(error))
    damage = read.json("damage.json")
    config = read.mapping(".resume/run.json").get("configuration") or read.yaml(".hydra/config.yaml") or {}
    return Record(
        directory,
        name,
        state,
        str(said.get("reason") or ""),
        tuple(map(str, read.yaml(".hydra/overrides.yaml") or ())),
        config,
        results,
        tuple(_models(directory, results, read.json("pareto.json"), config)) if finished else (),
        read.mapping("environment.json"),
        plan,
        tuple(damage) if isinstance(damage, list) else (),
        tuple(read.notes),
    )


def _models(directory: Path, results: Mapping[str, Any], points: Any, config: Mapping[str, Any]) -> Iterator[Model]:
    """Yield the models of a run: of every ratio that was asked for, or its only one."""
    dense, last = results["baseline"], results["axformer"]
    made = [point for point in points or () if "artifact" in point and point["artifact"] != "finetuned"]
    if len(made) > 1:
        ratios = _ratios(config)
        labels = [f"{ratio:g}x" for ratio in ratios] if len(ratios) == len(made) else [p["artifact"] for p in made]
        for point, label in zip(made, labels, strict=True):
            costs = {"encoder": point["encoder_size"], "file": point["file_size"]}
            latency = {"latency_ms": last.get("latency_ms", {})} if point is made[-1] else {}
            yield Model(label, directory / point["artifact"], point["metrics"], costs | latency)
        return
    costs = {
        name: last[key] / dense[key]
        for name, key in (("encoder", "encoder_parameters"), ("file", "size_bytes"))
        if last.get(key) is not None and dense.get(key)
    }
    yield Model("", directory / "model", last["metrics"], {**costs, "latency_ms": last.get("latency_ms", {})})


def _ratios(config: Mapping[str, Any]) -> list[float]:
    return sorted({float(ratio) for ratio in (config.get("pruning") or {}).get("ratios") or ()})


class _Reader:
    """Reads files of a directory; what cannot be read is noted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notes: list[str] = []

    def json(self, name: str) -> Any:
        return self._read(name, json.loads)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.json(name)
        return value if isinstance(value, dict) else {}

    def yaml(self, name: str) -> Any:
        return self._read(name, lambda text: OmegaConf.to_container(OmegaConf.create(text), resolve=False))

    def _read(self, name: str, parse: Any) -> Any:
        path = self.directory / name
        if not path.exists():
            return None
        try:
            return parse(path.read_text(encoding="utf-8"))
        except Exception as error:  # whatever is broken in one run, the others are reported
            self.notes.append(f"Cannot read {str(path)!r}: {type(error).__name__}: {error}".splitlines()[0])
            return None
