"""Where an architecture's latency and memory are: measured blocks one after another, costs layer by layer.

A layer's own share of a cost is what the same layer costs a second time, by the public closed form:

    share(a) = costs(a, a) - costs(a)        ends = costs(whole) - sum of the layers' shares
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.latency import Target, blocks_of
from search.records import JobRecord, MeasurementRecord, TrialRecord
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.errors import ServiceError

from .wording import FORMAT_WORDS

QUANTITY = "block_latency_s"


@dataclass(frozen=True, slots=True)
class PlannedBlock:
    """A block of the model in the order of a forward pass; `id` is the subject of its measurement."""

    id: str
    name: str
    part: str
    kind: str
    """Of the mixer or the feed-forward; empty for the ends."""


@dataclass(frozen=True, slots=True)
class BlockTime:
    """What a block takes, measured alone."""

    block: PlannedBlock
    seconds: float
    spread_s: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """Bytes of one part of the model: its weights, its state between tokens, and what lives while it runs."""

    name: str
    weights_bytes: int
    state_bytes: int
    activation_bytes: int


def target_of(job: JobRecord) -> Target:
    """Where the job measures; what the job has resolved comes before what its file says."""
    known = {**job.spec["target"], **(job.context.get("target") or {})}
    return Target(
        device=known.get("device", "cpu"),
        runtime=known["runtime"],
        threads=int(known["threads"]),
        batch_size=int(known["batch_size"]),
        length=None if known.get("length") is None else int(known["length"]),
        phase=known.get("phase", "prefill"),
    )


def block_plan(job: JobRecord, trial: TrialRecord) -> list[PlannedBlock]:
    """The blocks of a trial; none where this program cannot take it apart."""
    try:
        architecture = parse_architecture(trial.architecture)
        blocks = blocks_of(architecture, target_of(job))
    except ServiceError:
        return []
    inner = len(blocks) - 2
    per_layer = inner // len(architecture.layers) if inner % len(architecture.layers) == 0 else 0
    planned = []
    for place, block in enumerate(blocks):
        is_end = block.part not in ("mixer", "feed_forward")
        layer = f"layer {(place - 1) // per_layer + 1} " if per_layer and not is_end else ""
        kind = "" if is_end else str(getattr(block.host.layers[0], block.part).kind)
        planned.append(
            PlannedBlock(block.id, f"{layer}{block.part.replace('_', '-')}", str(block.part), kind)
        )
    return planned


def block_times(
    job: JobRecord, plan: Sequence[PlannedBlock], measured: Mapping[str, Sequence[MeasurementRecord]]
) -> list[BlockTime]:
    """The newest measurement of each block on the job's device; empty unless every block has one."""
    device = job.context.get("device_key")
    times = []
    for block in plan:
        known = [
            record
            for record in measured.get(block.id, ())
            if record.quantity == QUANTITY and record.value is not None and record.device_key == device
        ]
        if not known:
            return []
        newest = max(known, key=lambda record: record.created_at)
        assert newest.value is not None
        times.append(BlockTime(block, newest.value, newest.spread, newest.flags))
    return times


def layer_memory(job: JobRecord, trial: TrialRecord) -> list[LayerMemory]:
    """Embedding and head, then every layer; none where this program cannot count it."""
    try:
        architecture = parse_architecture(trial.architecture)
        return _memory(architecture, target_of(job))
    except ServiceError:
        return []


def _memory(architecture: Architecture, target: Target) -> list[LayerMemory]:
    tokens, batch = target.tokens(architecture), target.batch_size
    whole = costs(architecture, batch_size=batch, tokens=tokens)
    # the smallest ends, so that the peak of a model of one layer is that layer's
    small = architecture.model_copy(
        update={"interface": architecture.interface.model_copy(update={"outputs": 1})}
    )
    layers = []
    for number, layer in enumerate(architecture.layers, start=1):
        alone = costs(_with_layers(small, (layer,)), batch_size=batch, tokens=tokens)
        twice = costs(_with_layers(small, (layer, layer)), batch_size=batch, tokens=tokens)
        layers.append(
            LayerMemory(
                f"layer {number} ({FORMAT_WORDS.get(layer.number_format, layer.number_format)})",
                twice.weights_bytes - alone.weights_bytes,
                twice.state_bytes - alone.state_bytes,
                alone.activation_bytes,
            )
        )
    rest = max(0, whole.weights_bytes - sum(layer.weights_bytes for layer in layers))
    ends = LayerMemory("embedding and head", rest, 0, _ends_activation(architecture, target))
    return [ends, *layers]


def _ends_activation(architecture: Architecture, target: Target) -> int:
    """The stream and the logits, which live together at the end."""
    tokens = target.tokens(architecture)
    rows = tokens if architecture.head.kind == "language" else 1
    stream = (tokens + architecture.class_tokens) * architecture.d_model
    return 4 * target.batch_size * (stream + max(stream, rows * architecture.interface.outputs))


def _with_layers(architecture: Architecture, layers: Sequence[object]) -> Architecture:
    """The architecture with these layers, none of them shared."""
    sharing = type(architecture).model_fields["sharing"].get_default(call_default_factory=True)
    return architecture.model_copy(update={"layers": tuple(layers), "sharing": sharing})
