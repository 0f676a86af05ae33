"""What can be built: choices, architectures, search spaces, costs, modules and their export.

Names are imported from the modules that define them, so that `space.errors` and the command line's help load
no torch.
"""

import os

# ONNX Runtime 1.32 reports its use to its maker and keeps a database of that in the home folder, unless this
# is set before it is loaded; its own `disable_telemetry_events` comes too late for the database.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__: list[str] = []
