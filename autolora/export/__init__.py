"""The ranks of a run as the configuration of other tools: ``autolora export RUN --format peft``.

A new format is a module with a function from an `autolora.export.base.Allocation` to an `Exported`, and a line here.
"""

FORMATS: dict[str, str] = {
    "peft": "autolora.export.peft:export",
    "axolotl": "autolora.export.axolotl:export",
    "llama-factory": "autolora.export.llama_factory:export",
    "yaml": "autolora.export.neutral:export",
}
