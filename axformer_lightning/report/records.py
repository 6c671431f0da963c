"""What run directories hold, read for a report; whatever is missing or broken is said and not guessed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from axformer_lightning.basics.reading import read_json
from axformer_lightning.plan import Plan
from axformer_lightning.report.checking import CHECKS, Check, check_configuration, check_list, check_run
from axformer_lightning.report.finding import SIGNS, runs_in
from axformer_lightning.report.naming import name_of_ratio, names_of_models

DONE, UNFINISHED, FAILED = "done", "unfinished", "failed"


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
        called: what the model is called beside those of other runs; empty for the end of its path.
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
    called: str = ""

    @property
    def is_done(self) -> bool:
        """Whether its numbers count."""
        return self.state == DONE

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self.results.get("task") or (self.config.get("task") or {}).get("name", "unknown"))

    @property
    def model(self) -> str:
        """The name of the pre-trained model."""
        return self.called or names_of_models([self.started_from])[self.started_from]

    @property
    def started_from(self) -> str:
        """The pre-trained model as it was given: an id of the hub, or a path."""
        return str(self.results.get("model") or (self.config.get("model") or {}).get("pretrained") or "tiny")

    @property
    def seed(self) -> int | None:
        """The seed, None where nothing says it."""
        seed: int | None = self.results.get("seed", self.config.get("seed"))
        return seed

    @property
    def headline(self) -> str:
        """The metric that counts."""
        metrics = self.results.get("baseline", {}).get("metrics", {})
        wanted = str((self.config.get("task") or {}).get("headline") or "")
        return wanted if wanted in metrics or not metrics else str(next(iter(metrics)))

    @property
    def expected(self) -> list[str]:
        """The labels of the models that the run makes, or would have."""
        ratios = [] if self.is_dense else _ratios(self.config)
        return [*map(name_of_ratio, ratios)] if len(ratios) > 1 else [""]

    @property
    def is_dense(self) -> bool:
        """Whether nothing was cut, and the dense model trained on by the recipe of the others."""
        return bool(self.config.get("retrain_dense"))

    @property
    def is_plain(self) -> bool:
        """Whether nothing was to be done after fine-tuning: what others are cut from, and no setting to compare."""
        cuts = ("pruning", "hard_attention", "int8")
        return not self.is_dense and all(self.config.get(name, "unknown") is None for name in cuts)

    @property
    def is_baseline(self) -> bool:
        """Whether nothing was to be cut."""
        return self.is_dense or self.is_plain


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
    records = [_record(found, found.relative_to(directory).as_posix()) for found in runs_in(directory)]
    if not records:
        raise ValueError(
            f"Expected runs in {str(directory)!r}, found none: no directory in it holds one of {', '.join(SIGNS)}."
            " Pass the directory that `train.py` printed, or one around several of them."
        )
    names = names_of_models([record.started_from for record in records])
    return [replace(record, called=names[record.started_from]) for record in records]


def _record(directory: Path, name: str) -> Record:
    read = _Reader(directory)
    results, said = read.json("results.json") or {}, read.json("state.json") or {}
    config, finished = read.configuration()
    state = _state(bool(results), finished, said.get("state"))
    return Record(
        directory,
        name,
        state,
        str(said.get("reason") or ""),
        tuple(map(str, read.file(".hydra/overrides.yaml", _yaml, check_list) or ())),
        config,
        results,
        tuple(_models(directory, results, read.json("pareto.json"), config)) if results else (),
        read.json("environment.json") or {},
        read.file("plan.json", Plan.from_json),
        tuple(read.json("damage.json") or ()),
        tuple(read.notes),
    )


def _state(has_results: bool, finished: bool | None, said: str | None) -> str:
    """Return the state of a run: done if all of its results are there, and no later run has begun in their place.

    Args:
        has_results: whether results.json is whole.
        finished: what the run's record says, None without one.
        said: what the run says of itself; one that writes its page still says that it is running.

    Example:
        >>> _state(True, True, "running"), _state(True, False, "running"), _state(True, False, None)
        ('done', 'running', 'unfinished')
        >>> _state(True, None, None), _state(False, None, "done"), _state(False, True, None)
        ('done', 'unfinished', 'unfinished')
    """
    if has_results and (finished or (finished is None and said in (None, DONE))):
        return DONE
    return UNFINISHED if said in (None, DONE) else said


def _models(directory: Path, results: Mapping[str, Any], points: Any, config: Mapping[str, Any]) -> Iterator[Model]:
    """Yield the models of a run: of every ratio that was asked for, or its only one.

    What is in `model/` is said by results.json alone: it may be in int8, which pareto.json, written before, knows not.
    """
    dense, last = results["baseline"], results["axformer"]
    shares = {
        name: last[key] / dense[key]
        for name, key in (("encoder", "encoder_parameters"), ("file", "size_bytes"))
        if last.get(key) is not None and dense.get(key)
    }
    models = [point for point in points or () if point.get("artifact", "finetuned") != "finetuned"]
    made = [point for point in models if {*dense["metrics"]} <= {*point["metrics"]}]
    ratios = [] if config.get("retrain_dense") else _ratios(config)
    label = name_of_ratio(ratios[-1]) if len(ratios) > 1 else ""
    if len(made) > 1:
        *labels, label = [*map(name_of_ratio, ratios)] if len(ratios) == len(made) else [p["artifact"] for p in made]
        for point, own in zip(made[:-1], labels, strict=True):
            timed = (results.get("models") or {}).get(point["artifact"], {})
            costs = {"encoder": point["encoder_size"], "file": point["file_size"]}
            costs["latency_ms"] = timed.get("latency_ms", {})
            yield Model(own, directory / point["artifact"], point["metrics"], costs)
    yield Model(label, directory / "model", last["metrics"], {**shares, "latency_ms": last.get("latency_ms", {})})


def _ratios(config: Mapping[str, Any]) -> list[float]:
    return sorted({float(ratio) for ratio in (config.get("pruning") or {}).get("ratios") or ()})


class _Reader:
    """Reads files of a directory; what cannot be read is noted, and None."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notes: list[str] = []

    def json(self, name: str) -> Any:
        """Return the content of a JSON file that passes its check."""
        return self.file(name, read_json, CHECKS[name])

    def configuration(self) -> tuple[dict[str, Any], bool | None]:
        """Return what the run's options came to, resolved or as Hydra keeps them; and whether the run has ended."""
        kept = self.file(".resume/run.json", read_json, check_run)
        if kept is not None:
            return kept["configuration"], kept["finished"]
        return self.file(".hydra/config.yaml", _yaml, check_configuration) or {}, None

    def file(self, name: str, parse: Callable[[str], Any], check: Check | None = None) -> Any:
        path = self.directory / name
        if not path.exists():
            return None
        try:
            value = parse(path.read_text(encoding="utf-8"))
            if check is not None:
                check(value)
        except Exception as error:  # whatever is broken in one run, the others are reported
            self.notes.append(f"Cannot read {str(path)!r}: {error!r}".splitlines()[0])
            return None
        return value


def _yaml(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
