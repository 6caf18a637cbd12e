"""LoRA: ranks, the selection layer, target modules, and PEFT's adapters."""
