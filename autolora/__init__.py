"""autolora: a LoRA rank for every layer, found by meta-learning (AutoLoRA, NAACL 2024)."""

__version__ = "0.1.0"
