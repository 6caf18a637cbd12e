"""Metrics: functions with a direction and a range. A new one is a module with a `METRIC`.

`base` says what a metric is, `compute` scores by name, and `shells` has them as `evaluate.Metric` modules.
"""
