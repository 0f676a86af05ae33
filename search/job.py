"""The job file: a frozen, fully validated description of one search.

`load_job` reads YAML or JSON, applies `key.path=value` overrides, and raises InvalidInputError with the path,
the value and the nearest valid name. `JobSpec` itself knows nothing of files, data or devices.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from space.errors import InvalidInputError, nearest

from .objectives import OBJECTIVES, QUALITY, constraint_key, objective_key

MAX_JOB_BYTES = 1_000_000
MAX_JOB_DEPTH = 32
MOST_SAMPLED = 512
"""Architectures of the screen's frozen sample, where a job does not say."""
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)

TaskKind = Literal["language-model", "image", "text-classification", "sequence"]


def _number(value: object) -> object:
    """YAML reads 2e6 as a string; take any numeric string."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else number
    return value


def _seconds(value: object) -> object:
    """45, '45', '45s', '10m', '2h' -> seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)?\s*", value)
        if not match:
            raise ValueError(f"'{value}' is not a duration; write 90s, 10m or 2h")
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]
    return value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
Duration = Annotated[float, BeforeValidator(_seconds)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TaskSpec(_Spec):
    """What is learned. `dataset`: a built-in name or a path."""

    kind: TaskKind = "language-model"
    dataset: str = Field("python-stdlib", min_length=1, max_length=4096)
    length: Int | None = Field(
        None, ge=8, le=8192, description="Tokens per sequence; the task's own by default"
    )
    vocab_size: None = Field(None, description="Reserved; text is bytes")


class SpaceSpec(_Spec):
    """Which architectures. Without `preset` the small preset of the task's model kind."""

    preset: str | None = None
    set: dict[str, Any] = Field(
        default_factory=dict, description="Domains narrowed or widened: gene -> values"
    )
    rules: list[dict[str, Any]] | None = Field(
        None, description="What single layers may have, in place of the preset's rules"
    )


class TargetSpec(_Spec):
    """Where the model will run."""

    device: Literal["cpu", "cuda"] = "cpu"
    runtime: Literal["onnxruntime", "eager", "torch-compile", "cudagraph"] = "onnxruntime"
    threads: Int = Field(1, ge=1, le=256)
    batch_size: Int = Field(1, ge=1, le=4096)
    length: Int | None = Field(None, ge=1, le=8192)
    phase: Literal["prefill", "decode"] = "prefill"


JobMode = Literal["trained", "training_free"]
TRAINING_FREE: JobMode = "training_free"
LARGEST = "largest"
TEACHERS = ("none", LARGEST)
"""Values of `finalists.teacher` that are no folder."""
WITHOUT_TRAINING: Mapping[str, Mapping[str, Any]] = {
    "strategy": {"kind": "pareto_evolution"},
    "screen": {"candidates": 1},
    "finalists": {"count": 0},
    "training": {"rungs": 1},
    "references": {"sizes": 2},
    "budget": {"trials": 1000},
}
"""Defaults of a job that trains nothing: many architectures, none of them to train longer."""

StrategyKind = Literal[
    "surrogate",
    "nsga2",
    "nsga3",
    "regularized_evolution",
    "pareto_evolution",
    "tpe",
    "gp",
    "boshnas",
    "entropy",
    "local_search",
    "stratified",
    "random",
]
"""How each is made: `search.strategies.make`."""


class StrategySpec(_Spec):
    kind: StrategyKind = "surrogate"
    seed: Int = Field(0, ge=0, lt=2**63)
    deterministic: bool = Field(
        False, description="Work goes out in batches: the same search for any number of workers"
    )
    batch: Int = Field(4, ge=1, le=64, description="Pieces of work in a batch of a deterministic search")


class ScreenSpec(_Spec):
    """Candidates drawn per trial; those another candidate beats in proxy rank and predicted latency are
    dropped."""

    candidates: Int = Field(4, ge=1, le=64)
    sample: Int | None = Field(
        None,
        ge=0,
        le=4096,
        description="Architectures whose proxies say what a candidate's are worth; by default as many as "
        "will be screened, at most 512; 0: candidates of a trial are ranked among themselves",
    )

    def sample_of(self, trials: int) -> int:
        """Architectures of the frozen sample of a job with so many trials.

        >>> ScreenSpec().sample_of(60), ScreenSpec().sample_of(1000), ScreenSpec(candidates=1).sample_of(60)
        (240, 512, 0)
        """
        if self.candidates == 1:
            return 0
        return min(MOST_SAMPLED, self.candidates * trials) if self.sample is None else self.sample


class TrainingSpec(_Spec):
    steps: Int = Field(300, ge=4, le=1_000_000)
    tokens: Int | None = Field(None, ge=1, le=10**12, description="In place of `steps`: tokens to be seen")
    rungs: Int = Field(3, ge=1, le=6)
    reduction: Int = Field(2, ge=2, le=8)
    batch_size: Int | None = Field(None, ge=1, le=4096, description="The task's own by default")
    device: Literal["auto", "cpu"] = "auto"

    def rung_steps(self) -> tuple[int, ...]:
        """Steps of each rung, the last one the full budget.

        >>> TrainingSpec(steps=300, rungs=3, reduction=2).rung_steps()
        (75, 150, 300)
        """
        return tuple(
            max(1, round(self.steps / self.reduction ** (self.rungs - 1 - rung)))
            for rung in range(self.rungs)
        )


class FinalistsSpec(_Spec):
    count: Int = Field(4, ge=0, le=64)
    of: Literal["front", "enqueued"] = Field(
        "front", description="front: spread over the search front; enqueued: what `enqueue` brought"
    )
    seeds: Int = Field(3, ge=1, le=32)
    steps: Int = Field(2000, ge=4, le=10_000_000)
    tokens: Int | None = Field(None, ge=1, le=10**13, description="In place of `steps`: tokens to be seen")
    teacher: str = Field(
        "none",
        min_length=1,
        max_length=4096,
        description="Whom finalists also learn from. largest: the job's largest trained architecture; or a "
        "model of yours: a folder that `export` wrote",
    )


class ReferencesSpec(_Spec):
    """The reference family: sizes per family (GPT-like and LLaMA-like; ViT-like for images)."""

    sizes: Int = Field(4, ge=1, le=6)
    own: tuple[str | dict[str, Any], ...] = Field(
        (), max_length=16, description="Models of yours: architecture files, exported folders, or in place"
    )


class LimitsSpec(_Spec):
    trial_timeout: Duration = Field(600.0, gt=0)


class BudgetSpec(_Spec):
    trials: Int = Field(60, ge=1, le=1_000_000)
    time: Duration | None = Field(None, gt=0)
    least_gain: Float | None = Field(
        None, gt=0, lt=1, description="Stops when the hypervolume grew by less than this fraction of late"
    )


class JobSpec(_Spec):
    """One search job (schema version 1)."""

    schema_version: Literal[1] = 1
    name: str = Field("search", min_length=1, max_length=200)
    mode: JobMode = Field("trained", description="training_free: proxies stand for quality, unvalidated")
    task: TaskSpec = TaskSpec()
    space: SpaceSpec = SpaceSpec()
    objectives: tuple[str, ...] = Field((QUALITY, "latency_s"), min_length=2, max_length=4)
    target: TargetSpec = TargetSpec()
    constraints: dict[str, Float] = Field(default_factory=dict, description="Objective key -> largest value")
    strategy: StrategySpec = StrategySpec()
    proxies: tuple[str, ...] | Literal["auto"] = "auto"
    screen: ScreenSpec = ScreenSpec()
    training: TrainingSpec = TrainingSpec()
    references: ReferencesSpec = ReferencesSpec()
    finalists: FinalistsSpec = FinalistsSpec()
    limits: LimitsSpec = LimitsSpec()
    enqueue: tuple[str | dict[str, Any], ...] = Field(
        (), max_length=1000, description="To try first: architecture files, exported folders, or in place"
    )
    warm_start: str | None = Field(
        None, pattern=r"[0-9a-f]{4,32}", description="An earlier job whose results this one begins with"
    )
    budget: BudgetSpec = BudgetSpec()

    @model_validator(mode="before")
    @classmethod
    def _without_training(cls, data: Any) -> Any:
        """What a job without training has where its file says nothing."""
        if not isinstance(data, Mapping) or data.get("mode") != TRAINING_FREE:
            return data
        filled = dict(data)
        for group, defaults in WITHOUT_TRAINING.items():
            given = filled.get(group, {})
            if isinstance(given, Mapping):
                filled[group] = {**defaults, **given}
        return filled

    @model_validator(mode="after")
    def _nothing_to_train(self) -> "JobSpec":
        if self.mode == TRAINING_FREE:
            if self.finalists.count or self.training.rungs > 1:
                raise ValueError(
                    "mode training_free has no finalists and no rungs; leave finalists and training out"
                )
            if self.proxies != "auto" and not self.proxies:
                raise ValueError("mode training_free needs proxies; name some or leave them out")
        return self

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("a name has printable characters on one line")
        return value

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        keys = tuple(_value_error(objective_key, name) for name in value)
        if len(set(keys)) != len(keys):
            raise ValueError(f"objectives repeat: {', '.join(keys)}")
        if sum(key == QUALITY or OBJECTIVES[key].source == "quality" for key in keys) != 1:
            raise ValueError("name exactly one quality objective (quality, bits_per_byte, loss or error)")
        return tuple(sorted(keys, key=lambda key: key != QUALITY and OBJECTIVES[key].source != "quality"))

    @field_validator("constraints")
    @classmethod
    def _constraints(cls, value: dict[str, float]) -> dict[str, float]:
        return {_value_error(constraint_key, name): limit for name, limit in value.items()}

    @field_validator("constraints")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for key, limit in value.items():
            if not limit > 0:
                raise ValueError(f"{key}={limit:g} must be greater than 0")
        return value


def _value_error(function: Any, name: str) -> str:
    """pydantic wraps ValueError only."""
    try:
        return str(function(name))
    except InvalidInputError as error:
        raise ValueError(error.message) from error


def load_job(path: Path, overrides: Sequence[str] = ()) -> JobSpec:
    """Reads a job file.

    Raises:
        InvalidInputError: unreadable, not a mapping, unknown key or impossible value; the message names
        which.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InvalidInputError(
            f"job file '{path}' does not exist; `paretoformer init` writes an example"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"job file '{path}' cannot be read: {error.strerror}") from error
    return parse_job(read_yaml(raw, str(path)), overrides)


def read_yaml(raw: bytes, where: str) -> object:
    """YAML or JSON text as plain data, without tags and aliases."""
    if len(raw) > MAX_JOB_BYTES:
        raise InvalidInputError(f"{where} has {len(raw)} bytes; a job file has at most {MAX_JOB_BYTES}")
    try:
        text = raw.decode("utf-8")
        depth = 0
        for token in yaml.scan(text):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > MAX_JOB_DEPTH:
                line = token.start_mark.line + 1
                raise InvalidInputError(f"{where}, line {line}: more than {MAX_JOB_DEPTH} levels are nested")
            if isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken)):
                raise InvalidInputError(
                    f"{where}, line {token.start_mark.line + 1}: anchors, aliases and tags are not accepted"
                )
        return yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where} is not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InvalidInputError(f"{where}, line {line}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInputError(f"{where} is not YAML: {error}") from error


def parse_job(data: object, overrides: Sequence[str] = ()) -> JobSpec:
    """Plain data -> JobSpec; see `load_job`."""
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise InvalidInputError(f"a job file is a mapping of keys, not a {type(data).__name__}")
    merged = _plain(data)
    for override in overrides:
        _apply(merged, override)
    try:
        return JobSpec.model_validate(merged)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, JobSpec))) from error


def _plain(data: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        raise InvalidInputError(f"--set '{override}' is not key=value, for example budget.trials=24")
    *parents, last = path.strip().split(".")
    for part in parents:
        child = data.setdefault(part, {})
        if not isinstance(child, dict):
            raise InvalidInputError(f"--set '{override}': '{part}' is a value, not a group of keys")
        data = child
    data[last] = read_yaml(text.encode(), f"--set '{override}'")


def describe_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per problem: path, what is wrong, the nearest valid name."""
    lines = []
    for problem in error.errors():
        location = [
            str(part) for part in problem["loc"] if part not in ("function-before", "literal['auto']")
        ]
        path = ".".join(location)
        if problem["type"] == "extra_forbidden":
            fields = _fields_at(model, location[:-1])
            lines.append(f"{path}: unknown key; {nearest(location[-1], fields)}")
        elif problem["type"] == "literal_error":
            valid = re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))
            lines.append(
                f"{path}: unknown value '{problem['input']}'; {nearest(str(problem['input']), valid)}"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = problem["input"]
            shown = f" (got {got!r})" if isinstance(got, (str, int, float)) and len(repr(got)) < 80 else ""
            lines.append(f"{path or 'job'}: {message[0].lower() + message[1:]}{shown}")
    return lines


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
