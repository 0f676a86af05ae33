"""What an architecture is worth: proxies, short training, measured latency. A number is a `Measurement`."""

from .protocol import Kind, Measurement, Status, fingerprint

__all__ = ["Kind", "Measurement", "Status", "fingerprint"]
