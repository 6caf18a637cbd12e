"""What is compared: AutoLoRA, its ablations and its rivals. A new one implements `autolora.methods.base.Method`."""
