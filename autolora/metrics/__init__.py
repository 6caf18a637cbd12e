"""Metrics, as `evaluate.Metric` modules that need no network. A new one is a module and one line here."""

METRICS: dict[str, str] = {
    "accuracy": "autolora.metrics.accuracy:Accuracy",
    "f1": "autolora.metrics.f1:F1",
    "matthews": "autolora.metrics.matthews:Matthews",
    "pearson": "autolora.metrics.pearson:Pearson",
    "spearman": "autolora.metrics.spearman:Spearman",
}
