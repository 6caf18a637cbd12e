"""Run directories: manifest, status, logs, checkpoints."""
