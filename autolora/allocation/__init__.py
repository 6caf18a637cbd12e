"""Which components of a trained LoRA are worth their parameters, and the model with those alone."""
