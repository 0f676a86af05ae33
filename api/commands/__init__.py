"""The commands of `paretoformer`, one file per subject. Heavy imports stand inside the functions."""
