"""Metrics: functions with a direction and a range. A new one is a module with a `METRIC`, and one line here.

`base` says what a metric is, `compute` scores by name, and `shells` has them as `evaluate.Metric` modules.
"""

METRICS: dict[str, str] = {
    "accuracy": "autolora.metrics.accuracy:METRIC",
    "bleu": "autolora.metrics.bleu:METRIC",
    "chrf": "autolora.metrics.chrf:METRIC",
    "cider": "autolora.metrics.cider:METRIC",
    "entities": "autolora.metrics.entities:METRIC",
    "f1": "autolora.metrics.f1:METRIC",
    "matthews": "autolora.metrics.matthews:METRIC",
    "meteor": "autolora.metrics.meteor:METRIC",
    "nist": "autolora.metrics.nist:METRIC",
    "pearson": "autolora.metrics.pearson:METRIC",
    "rouge_l": "autolora.metrics.rouge_l:METRIC",
    "spearman": "autolora.metrics.spearman:METRIC",
    "ter": "autolora.metrics.ter:METRIC",
}
