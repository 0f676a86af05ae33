"""Whether a model fits a microcontroller of the table; the plan itself is `space.microcontroller`."""

from space.architecture import Architecture
from space.microcontroller import FLASH_BYTES, ROWS, SRAM_BYTES, MicrocontrollerPlan, planned

from .table import Device


def microcontroller_plan(
    architecture: Architecture, device: Device | None = None, *, tokens: int | None = None, rows: int = ROWS
) -> MicrocontrollerPlan:
    """The schedule of one sequence, against the device's memory and flash where the table has them."""
    return planned(
        architecture,
        tokens=tokens,
        rows=rows,
        sram_bytes=int(device.memory.value) if device and device.memory else SRAM_BYTES,
        flash_bytes=int(device.flash.value) if device and device.flash else FLASH_BYTES,
    )
