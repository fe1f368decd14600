"""What a config holds: the sections whose keys are always the same, and the checked config of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from fmnist_sweep.data.data_config import DataConfig
from fmnist_sweep.data.description import MAX_SIDE
from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.plugins import METRICS, ORACLES
from fmnist_sweep.search.tunable import TUNABLE, Count
from fmnist_sweep.training.growth import MAX_BATCH, MIN_SIDE
from fmnist_sweep.training.own_code import suggest_plugins

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
MAX_NUMBER = 1_000_000_000  # of what nothing else bounds: a greater one is a slip, and infinity cannot be counted with
Minutes = Annotated[float, Field(gt=0, le=MAX_NUMBER)]


class EarlyStopping(BaseModel):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs."""

    model_config = STRICT
    monitor: Literal["val_loss", "val_accuracy"]
    patience: Annotated[Count, TUNABLE]
    min_delta: Annotated[float, Field(ge=0, le=MAX_NUMBER)]


class Resolution(BaseModel):
    """Train first on smaller images: their shorter side has `start` pixels, and `step` more `every` so many epochs."""

    model_config = STRICT
    start: Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE), TUNABLE]
    step: Annotated[int, Field(ge=1, le=MAX_SIDE), TUNABLE]
    every: Annotated[Count, TUNABLE]


class BatchGrowth(BaseModel):
    """Multiply the images in a batch by `factor` after `every` so many epochs."""

    model_config = STRICT
    factor: Annotated[float, Field(gt=1, le=16), TUNABLE]
    every: Annotated[Count, TUNABLE]


class TrainConfig(BaseModel):
    """How a trial is trained."""

    model_config = STRICT
    epochs: Annotated[Count, TUNABLE]
    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH), TUNABLE]
    batch_growth: BatchGrowth | None = None
    resolution: Resolution | None = None
    loss: Annotated[
        Literal["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"], TUNABLE
    ]
    label_smoothing: Annotated[float, Field(ge=0, lt=1), TUNABLE] = 0.0
    averaging: Annotated[float, Field(ge=0, lt=1), TUNABLE] = 0.0
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    precision: Literal["float32", "mixed_bfloat16", "auto"]
    normalization: Literal["fused", "keras"] = "keras"  # what was trained before there was a choice
    early_stopping: EarlyStopping | None
    schedule: dict[str, Any]
    augmentation: dict[str, Any]


def _check_first(value: Any) -> Any:
    is_list = isinstance(value, list) and all(isinstance(each, dict) for each in value)
    is_list = is_list and all(isinstance(key, str) for each in value for key in each)
    if value is not None and value != "default" and not is_list:
        raise ValueError("expected default, null or a list of mappings, as in [{model.filters: 24}]")
    return value


def _check_objective(objective: str) -> str:
    allowed = ["val_accuracy", "val_loss", *(f"val_{name}" for name in METRICS)]
    if objective not in allowed:
        raise ValueError(f"expected {', '.join(allowed[:-1])} or {allowed[-1]}{suggest_plugins()}")
    return objective


class SearchConfig(BaseModel):
    """What every search has; the arguments of its oracle are in `Config.oracle`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")
    name: str
    max_trials: Count | None
    max_minutes: Minutes | None
    trial_minutes: Minutes | None
    until: Literal["settled"] | None = None
    objective: Annotated[str, AfterValidator(_check_objective)]
    fail_fast: bool
    synchronous: bool
    ahead: Count
    # Neutral where they are absent, as in what was stored before there were any.
    max_parameters: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | None = None
    first: Annotated[list[dict[str, Any]] | Literal["default"] | None, BeforeValidator(_check_first)] = None
    like: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @property
    def lookahead(self) -> int | None:
        """How many trials the search may be ahead of results that it is told in order; None: told as they come.

        The order matters to oracles whose proposals depend on results: not to a random search or a grid.
        """
        registered = ORACLES.find_registration(self.name)
        is_own = registered is not None and registered.plugin is not None
        goes_by_results = is_own or self.name in ("bayesian", "hyperband", "asha", "tpe")
        return self.ahead if self.synchronous and goes_by_results else None


class ExecutorConfig(BaseModel):
    """Where trials run. attempts: how many workers a trial that makes no progress may cost."""

    model_config = STRICT
    name: Literal["auto", "in_process", "local", "ray"]
    workers: Annotated[int, Field(ge=1, le=1024)] | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    attempts: Count


class InProcessConfig(ExecutorConfig):
    """One trial at a time, in the process of the command."""

    workers: Annotated[int, Field(ge=1, le=1)]


class RayConfig(ExecutorConfig):
    """Tasks on a Ray cluster. address: of a running one; None: start one here. gpus: per trial."""

    address: Annotated[str, Field(min_length=1)] | None
    gpus: Annotated[float, Field(ge=0, le=1024)]

    @field_validator("gpus")
    @classmethod
    def _check_gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("above 1, a trial has whole GPUs")
        return gpus


EXECUTORS: dict[str, type[ExecutorConfig]] = {
    "auto": ExecutorConfig,
    "in_process": InProcessConfig,
    "local": ExecutorConfig,
    "ray": RayConfig,
}


class TrackingConfig(BaseModel):
    """Which MLflow store, and which experiment in it."""

    model_config = STRICT
    uri: Annotated[str, Field(min_length=1)] | None
    experiment: Annotated[str, Field(min_length=1, max_length=256)]
    keep_models: Count | Literal["all"]

    @field_validator("experiment")
    @classmethod
    def _refuse_credentials(cls, experiment: str) -> str:
        if mask_credentials(experiment) != experiment:
            raise ValueError("a password or token in it would be seen by all who may read the store")
        return experiment


class CheckpointConfig(BaseModel):
    """How often the state of a trial is saved, so that the trial can be continued."""

    model_config = STRICT
    every_seconds: Annotated[float, Field(ge=0, le=MAX_NUMBER)]


class PromoteConfig(BaseModel):
    """How a promotion is decided; conf/promote/default.yaml explains each key."""

    model_config = STRICT
    finalists: Annotated[int, Field(ge=1, le=20)]
    seeds: Annotated[int, Field(ge=2, le=100)] | None
    first_seeds: Annotated[int, Field(ge=2, le=100)] = 5  # absent from options of the group that were written before it
    gain: Annotated[float, Field(gt=0, lt=1)]
    power: Annotated[float, Field(gt=0, lt=1)]
    min_gain: Annotated[float, Field(ge=0, lt=1)]
    class_drop: Annotated[float, Field(ge=0, le=1)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    include_validation: bool


@dataclass(frozen=True)
class Config:
    """A checked config: `settings` (tunables included) decides the trials, the rest how and where they run."""

    data: DataConfig
    settings: dict[str, Any]  # model, optimizer, regularization, train, seed: what a trial is made of
    search: SearchConfig
    oracle: dict[str, Any]  # the oracle's own arguments
    executor: ExecutorConfig
    tracking: TrackingConfig
    checkpoint: CheckpointConfig
    promote: PromoteConfig
    plan: bool
    fresh: bool

    def to_mapping(self) -> dict[str, Any]:
        """The mapping from which `check_config` makes this config."""
        sections = ("data", "search", "executor", "tracking", "checkpoint", "promote")
        mapping = {section: getattr(self, section).model_dump() for section in sections}
        mapping["search"] |= self.oracle
        return {**self.settings, **mapping, "plan": self.plan, "fresh": self.fresh}


OPTION_GROUPS = ("model", "optimizer", "regularization", "train")  # whose options one study may search
SECTIONS = (
    *("data", "model", "optimizer", "train", "regularization", "search", "executor", "tracking", "checkpoint"),
    "promote",
)
ROOT_KEYS = (*SECTIONS, "seed", "plan", "fresh")
