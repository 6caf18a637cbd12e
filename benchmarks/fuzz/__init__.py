"""Recipes, run folders and data files that nobody wrote on purpose: ``python -m benchmarks.fuzz`` (``make fuzz``)."""
