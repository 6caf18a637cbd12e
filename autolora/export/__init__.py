"""The ranks of a run as the configuration of other tools: ``autolora export RUN --format peft``.

A new format is a module with a function from an `autolora.export.base.Allocation` to an `Exported`.
"""
