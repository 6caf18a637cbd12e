"""Metrics, as `evaluate.Metric` modules that need no network. A new one is a module and one line here."""

METRICS: dict[str, str] = {
    "accuracy": "autolora.metrics.accuracy:Accuracy",
    "bleu": "autolora.metrics.bleu:Bleu",
    "chrf": "autolora.metrics.chrf:Chrf",
    "cider": "autolora.metrics.cider:Cider",
    "entities": "autolora.metrics.entities:Entities",
    "f1": "autolora.metrics.f1:F1",
    "matthews": "autolora.metrics.matthews:Matthews",
    "meteor": "autolora.metrics.meteor:Meteor",
    "nist": "autolora.metrics.nist:Nist",
    "pearson": "autolora.metrics.pearson:Pearson",
    "rouge_l": "autolora.metrics.rouge_l:RougeL",
    "spearman": "autolora.metrics.spearman:Spearman",
    "ter": "autolora.metrics.ter:Ter",
}
