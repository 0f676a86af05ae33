"""Latency: measured whole and by blocks, composed, predicted; and the host lock that keeps it honest."""

from .block_timing import BLOCK_LIMITS, measure_blocks
from .blocks import Block, blocks_of
from .estimator import Estimate, EstimatorLimits
from .host_lock import quiet_host, training_step
from .measure import measure_model, measure_onnx
from .prediction import Correction, composed_s, fit_correction, missing_blocks, predict_latency
from .runtimes import predictor, run_file
from .target import Target, check_target, device_facts, device_key, latency_fingerprint

__all__ = [
    "BLOCK_LIMITS",
    "Block",
    "Correction",
    "Estimate",
    "EstimatorLimits",
    "Target",
    "blocks_of",
    "check_target",
    "composed_s",
    "device_facts",
    "device_key",
    "fit_correction",
    "latency_fingerprint",
    "measure_blocks",
    "measure_model",
    "measure_onnx",
    "missing_blocks",
    "predict_latency",
    "predictor",
    "quiet_host",
    "run_file",
    "training_step",
]
