"""The example job: written by `paretoformer init`, offered on the page of a new job."""

EXAMPLE = """\
# A search job. Every line has a default: what you delete is filled in. Run it with
#   paretoformer search job.yaml
name: my search

# What is learned. language-model: python-stdlib (built in), or the path of a text file or folder;
# image: digits (built in), or an .npz with x_train, y_train, x_test, y_test; sequence: an .npz;
# text-classification: a .csv or .jsonl with the columns text and label.
task: {kind: language-model, dataset: python-stdlib}

# Which architectures. `paretoformer space list` shows the presets, `space show NAME` the values of each.
space:
  set:                                  # narrowed or widened values of single genes
    d_model: [32, 48, 64]
    num_layers: [1, 2, 3, 4]

# What matters: quality (of the task: bits_per_byte, loss or error), latency, memory, params, macs.
objectives: [quality, latency]
# constraints: {params: 2e6, latency: 0.02, memory: 64e6}      # limits: seconds, bytes

# Where the model will run; every latency is measured there.
target: {device: cpu, runtime: onnxruntime, threads: 1, batch_size: 1}

strategy: {kind: surrogate, seed: 0}    # or nsga2, tpe, random, ...: see docs/job-file.md
training: {steps: 150, rungs: 2}        # every trial; half of them stop at the first rung
references: {sizes: 2}                  # ordinary transformers the front is compared with
finalists: {count: 3, seeds: 3, steps: 150}   # from 1,000 steps on the report is more than a demonstration
budget: {trials: 24, time: 10m}
"""
