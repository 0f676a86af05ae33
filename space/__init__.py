"""What can be built: choices, architectures, search spaces, costs, modules and their export.

Names are imported from the modules that define them, so that `space.errors` and the command line's help load
no torch.
"""

__all__: list[str] = []
