"""One score a file: what a component is worth. Names are in `autolora.registry.SCORES`."""
