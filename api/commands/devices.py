"""`paretoformer device`: machines that latencies were measured on, this one, and models of absent ones."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DEFAULT_DATABASE, Db, Json, open_database
from .output import emit_json, out, pairs, table
from .score import read_architecture, runtime_named

if TYPE_CHECKING:
    from evaluators.devices import Calibration, Device, DeviceTable, Phase
    from evaluators.protocol import Measurement

app = typer.Typer(
    no_args_is_help=True, help="Machines that latencies were measured on, and models of others."
)

Table = Annotated[
    Path | None, typer.Option("--table", metavar="FILE", help="JSON with more devices, or others of a name.")
]
Runtime = Annotated[str, typer.Option("--runtime", help="onnxruntime or eager.")]
Threads = Annotated[int, typer.Option("--threads", min=1)]


@app.command("list")
def list_devices(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """This machine, those in the database, and those of the table."""
    from ..devices import device_answers

    with open_database(db).read() as session:
        found = device_answers(session)
    if as_json:
        emit_json(found)
        return
    for one in (one for one in found if one["kind"] == "measured"):
        facts = [(key, value) for key, value in one["facts"].items() if key != "calibration"]
        out().print(pairs([("device", one["key"]), ("here", one["here"]), *facts]))
    rows = [(one["key"], one["facts"]["title"]) for one in found if one["kind"] == "analytic"]
    out().print(table(("name", "analytic, not measured"), rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `device list`.")],
    devices: Table = None,
    as_json: Json = False,
) -> None:
    """The numbers of a device of the table, each with its source."""
    from ..devices import model_answer

    known = _table(devices)
    device = known.get(name)
    if as_json:
        emit_json(model_answer(device, known))
        return
    out().print(pairs(_described(device)))
    rows = [
        (key, f"{one.value:.4g}", known.sources[one.source].date, known.sources[one.source].text)
        for key, one in device.numbers.items()
    ]
    out().print(table(("number", "value", "date", "source"), rows, right=(1,)))


@app.command()
def calibrate(
    runtime: Runtime = "onnxruntime", threads: Threads = 1, db: Db = DEFAULT_DATABASE, as_json: Json = False
) -> None:
    """Measures twelve small operators here and fits this machine's device model."""
    from evaluators.devices import calibrate as calibrated
    from evaluators.latency import Target

    from ..devices import keep_calibration

    target = Target(runtime=runtime_named(runtime), threads=threads)
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as scratch:
        found = calibrated(target, scratch=Path(scratch))
    with open_database(db).write() as session:
        keep_calibration(session, target, found)
    if as_json:
        emit_json(found.described())
        return
    out().print(pairs(_calibration_rows(found)))


@app.command()
def predict(
    path: Annotated[Path, typer.Argument(metavar="ARCH.json", help="An architecture as JSON.")],
    name: Annotated[
        str, typer.Option("--device", help="A name of `device list`, or here: as it was calibrated.")
    ] = "here",
    devices: Table = None,
    measured: Annotated[
        Path | None,
        typer.Option("--measured", metavar="FILE", help="Latencies measured there: fits the prediction."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like", metavar="FILE", help="Latencies of the same on another device, to begin with."
        ),
    ] = None,
    runtime: Runtime = "onnxruntime",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="All cores by default.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 1,
    length: Annotated[
        int | None, typer.Option("--length", min=1, help="Tokens; the context by default.")
    ] = None,
    decode: Annotated[bool, typer.Option("--decode", help="One more token instead of all of them.")] = False,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Latency of an architecture on a device that is not at hand; analytic, not measured."""
    from evaluators.predictors import predict_elsewhere
    from search.workers.stages import pack
    from space.architecture import parse_architecture
    from space.errors import InvalidInputError

    from ..devices import HERE, read_measured

    architecture = parse_architecture(read_architecture(path))
    if like and not measured:
        raise InvalidInputError(
            "--like carries latencies over by some made there: name these with --measured"
        )
    device = _here(db, runtime, threads or 1) if name == HERE else _table(devices).get(name)
    phase: Phase = "decode" if decode else "prefill"
    found = predict_elsewhere(
        architecture, device, read_measured(measured) if measured else (),
        like=read_measured(like) if like else (), batch_size=batch_size, tokens=length, phase=phase,
        threads=threads,
    )  # fmt: skip
    if as_json:
        emit_json(pack(found))
        return
    out().print(pairs(_prediction_rows(device, found)))


def _table(path: Path | None) -> "DeviceTable":
    from evaluators.devices import load_devices

    known = load_devices()
    return known if path is None else known.joined(load_devices(path))


def _here(db: str, runtime: str, threads: int) -> "Device":
    from evaluators.latency import Target

    from ..devices import stored_calibration

    target = Target(runtime=runtime_named(runtime), threads=threads)
    with open_database(db).read() as session:
        return stored_calibration(session, target)


def _described(device: "Device") -> list[tuple[str, Any]]:
    usage = device.efficiency
    reached = f"{usage.compute:.0%} of arithmetic, {usage.memory:.0%} of bandwidth"
    found: list[tuple[str, Any]] = [("device", device.title), ("kind", device.kind)]
    if device.clock_hz is not None:
        found += [("cores", f"{device.cores}; peaks are per core and cycle")]
    found += [("reaches", f"{reached} ({'calibrated' if device.is_calibrated else 'assumed'})")]
    return [*found, ("note", device.note)] if device.note else found


def _calibration_rows(found: "Calibration") -> list[tuple[str, Any]]:
    from dashboards.wording import shown

    device = found.device
    rows: list[tuple[str, Any]] = [("device", device.title)]
    rows += [(f"{key} arithmetic", f"{one.value / 1e9:.4g} G/s") for key, one in device.peaks.items()]
    rows += [
        ("bandwidth", f"{device.bandwidth.value / 1e9:.4g} GB/s"),
        ("launch", f"{device.efficiency.launch_s * 1e6:.3g} us"),
        ("error of the fit", f"{found.rms_log_error:.0%} (root mean square over the kernels)"),
    ]
    return rows + [(name, shown("latency_s", seconds)) for name, seconds in found.measured_s.items()]


def _prediction_rows(device: "Device", found: "Measurement") -> list[tuple[str, Any]]:
    from dashboards.wording import shown

    assert found.value is not None
    detail = found.detail
    # the parts are the roofline's: they add up to no fitted latency
    parts = {} if "method" in detail else detail["by_role_s"]
    return [
        ("device", device.title),
        ("latency", f"{shown('latency_s', found.value)} ({detail['label']})"),
        ("between", f"{shown('latency_s', detail['low_s'])} and {shown('latency_s', detail['high_s'])}"),
        ("memory", shown("memory_bytes", detail["memory_bytes"])),
        ("fits in memory", detail["fits"]),
        *((f"in {role.replace('_', ' ')}", shown("latency_s", s)) for role, s in parts.items()),
    ]
