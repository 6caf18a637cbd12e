"""Task families. A new one is a module that implements `autolora.tasks.base.Task`, and one line here."""

TASKS: dict[str, str] = {
    "classification": "autolora.tasks.classification:Classification",
    "generation": "autolora.tasks.generation:Generation",
    "regression": "autolora.tasks.classification:Regression",
    "tagging": "autolora.tasks.tagging:Tagging",
}
