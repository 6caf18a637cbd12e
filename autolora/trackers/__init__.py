"""Trackers: what a run logs, sent to TensorBoard, MLflow, trackio or Weights & Biases while it runs."""
