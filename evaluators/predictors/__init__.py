"""Predictors fitted to measurements: latency on one device, and carried over from another."""

from .elsewhere import predict_elsewhere
from .latency import LatencyPredictor, fit_latency
from .transfer import Transferred, transfer
from .work import work_of

__all__ = ["LatencyPredictor", "Transferred", "fit_latency", "predict_elsewhere", "transfer", "work_of"]
