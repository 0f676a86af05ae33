"""Latency: measured whole and by blocks, composed, predicted; and the host lock that keeps it honest."""

from .block_timing import BLOCK_LIMITS, measure_blocks
from .blocks import Block, blocks_of
from .correction import Correction, Pair, fit_correction
from .estimator import Estimate, EstimatorLimits
from .host_lock import quiet_host, training_step
from .measure import measure_model, measure_module, measure_onnx, write_steps
from .memory import measure_memory
from .prediction import Composition, composition, missing_blocks, predict_latency
from .runtimes import predictor, run_file
from .target import Target, check_target, device_facts, device_key, latency_fingerprint

__all__ = [
    "BLOCK_LIMITS",
    "Block",
    "Composition",
    "Correction",
    "Estimate",
    "EstimatorLimits",
    "Pair",
    "Target",
    "blocks_of",
    "check_target",
    "composition",
    "device_facts",
    "device_key",
    "fit_correction",
    "latency_fingerprint",
    "measure_blocks",
    "measure_memory",
    "measure_model",
    "measure_module",
    "measure_onnx",
    "missing_blocks",
    "predict_latency",
    "predictor",
    "quiet_host",
    "run_file",
    "training_step",
    "write_steps",
]
