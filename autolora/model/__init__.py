"""The pretrained model, its target modules, and the selection layer."""
