"""Devices that are not at hand: peaks, bandwidth and memory from a file, every number with its source.

Peaks are dense. Data sheets often print those with structured sparsity, twice as large, so a device without
the mark `dense: true` is refused. A CPU's peaks are per core and cycle; a run takes as many cores as it has
threads.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from space.errors import InvalidInputError, NotFoundError, nearest

BUILT_IN = Path(__file__).with_name("devices.json")

Number = Literal["fp32", "tf32", "bf16", "fp8", "int8", "fp4"]
"""What arithmetic units compute in."""
Kind = Literal["gpu", "cpu", "mcu"]
Entry = TypeVar("Entry", bound=BaseModel)

WIDER: Mapping[Number, Number] = {
    "tf32": "fp32",
    "bf16": "fp32",
    "fp8": "bf16",
    "int8": "fp32",
    "fp4": "fp8",
}
"""What a device computes in where it has no units of that kind."""


class Source(BaseModel):
    """Where a number is from. `checked`: somebody read it there on that date."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(min_length=1)
    date: dt.date
    checked: bool


class Quoted(BaseModel):
    """A number and the key of its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(gt=0, allow_inf_nan=False)
    source: str


Efficiency = Annotated[float, Field(gt=0, le=1)]


class Usage(BaseModel):
    """How much of its peaks a device reaches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compute: Efficiency
    """Of the peak, in large matrix products."""
    memory: Efficiency
    """Of the bandwidth."""
    launch_s: float = Field(ge=0)
    """Of one operator."""
    full_rows: int = Field(ge=1)
    """Rows of a matrix product from which the units are full."""
    tile: int = Field(ge=1)
    """Outputs that are computed together."""


USAGE: Mapping[Kind, Usage] = {
    "gpu": Usage(compute=0.6, memory=0.75, launch_s=4e-6, full_rows=64, tile=64),
    "cpu": Usage(compute=0.4, memory=0.7, launch_s=3e-7, full_rows=8, tile=8),
    "mcu": Usage(compute=0.4, memory=0.7, launch_s=0, full_rows=1, tile=1),
}
"""Before a calibration. A GPU's launches are those of eager calls; a captured graph takes 1 us each."""


class Device(BaseModel):
    """One device of the table, or this machine as a calibration found it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=60)
    title: str = Field(min_length=1)
    kind: Kind
    dense: Literal[True]
    cores: int = Field(1, ge=1)
    clock_hz: Quoted | None = None
    """Of a CPU: peaks are then per core and cycle."""
    peaks: dict[Number, Quoted] = Field(min_length=1)
    """FLOP/s or integer operations per second; a multiply-accumulate is two."""
    bandwidth: Quoted
    """Bytes per second of the memory that weights lie in."""
    memory: Quoted | None = None
    """Bytes."""
    flash: Quoted | None = None
    """Bytes for weights, where they do not lie in memory."""
    power: Quoted | None = None
    """W at full load."""
    usage: Usage | None = None
    """Known from a calibration; None: that of the kind."""
    note: str = ""

    @property
    def numbers(self) -> dict[str, Quoted]:
        """Every number of the entry by name."""
        others = ("bandwidth", "memory", "flash", "power", "clock_hz")
        found: dict[str, Quoted] = {name: one for name in others if (one := getattr(self, name)) is not None}
        found.update(self.peaks.items())
        return found

    @property
    def efficiency(self) -> Usage:
        return self.usage or USAGE[self.kind]

    @property
    def is_calibrated(self) -> bool:
        return self.usage is not None

    def computes(self, number: Number) -> Number:
        """The units that do the work of a number format."""
        while number not in self.peaks and number in WIDER:
            number = WIDER[number]
        return number

    def peak(self, number: Number, threads: int | None = None) -> float:
        """Operations per second on `threads` cores (all of them when None).

        Raises:
            InvalidInputError: the device has no units for it, not even wider ones.
        """
        units = self.computes(number)
        if units not in self.peaks:
            raise InvalidInputError(
                f"device '{self.name}' has no peak for {number}, nor for {units}; add one to its entry"
            )
        cycles = (
            1.0 if self.clock_hz is None else self.clock_hz.value * min(threads or self.cores, self.cores)
        )
        return self.peaks[units].value * cycles


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """Devices by name, and where their numbers are from."""

    devices: Mapping[str, Device]
    sources: Mapping[str, Source]

    def get(self, name: str) -> Device:
        """
        Raises:
            NotFoundError: no device of that name.
        """
        if name not in self.devices:
            raise NotFoundError(f"device '{name[:60]}' is not in the table; {nearest(name, self.devices)}")
        return self.devices[name]

    def joined(self, other: "DeviceTable") -> "DeviceTable":
        """With the other's devices; of two with one name the other's."""
        return DeviceTable({**self.devices, **other.devices}, {**self.sources, **other.sources})


def load_devices(path: Path = BUILT_IN) -> DeviceTable:
    """Reads a table.

    Raises:
        InvalidInputError: no such file, not JSON, an entry without `dense: true`, a number without a source
        or whose source has no text and date.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"device table '{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInputError(f"device table '{path}' is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("devices"), list):
        raise InvalidInputError(
            f"device table '{path}' has no list 'devices'; see {BUILT_IN.name} in evaluators/devices"
        )
    sources = {
        key: _checked(Source, value, f"source '{key}'") for key, value in data.get("sources", {}).items()
    }
    devices = [_device(entry, sources) for entry in data["devices"]]
    return DeviceTable({device.name: device for device in devices}, sources)


def _device(entry: Any, sources: Mapping[str, Source]) -> Device:
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(entry, dict) or entry.get("dense") is not True:
        raise InvalidInputError(
            f"device '{name}' is not marked dense: true; data sheets print peaks with structured sparsity, "
            "twice as large: enter the dense ones and add the mark"
        )
    device = _checked(Device, entry, f"device '{name}'")
    for quoted in device.numbers.values():
        if quoted.source not in sources:
            raise InvalidInputError(
                f"device '{name}': source '{quoted.source}' is not described; "
                f"{nearest(quoted.source, sources)}"
            )
    return device


def _checked(model: type[Entry], value: Any, where: str) -> Entry:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"{where}: {path}: {first['msg']} (got {first['input']!r})") from error
