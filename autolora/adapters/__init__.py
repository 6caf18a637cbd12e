"""Adapters on disk: read a layer at a time, made smaller, written as stock PEFT loads them."""
