"""LoRA at the found ranks, as a stock PEFT adapter."""
