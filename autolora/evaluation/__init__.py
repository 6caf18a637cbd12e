"""Predictions and metrics on the evaluation splits."""
