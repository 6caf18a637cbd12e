"""Recipes: their schema, reading, checking, and those that are shipped."""
