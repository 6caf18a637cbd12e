"""Adapters as they lie on disk, anybody's: read, made smaller, written as stock PEFT loads them, merged."""
