"""Adapters as they lie on disk, anybody's: read, made smaller, merged into their model."""
