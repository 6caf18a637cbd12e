"""Measurements that the documentation quotes; each is a script with a docstring that says how to call it."""
