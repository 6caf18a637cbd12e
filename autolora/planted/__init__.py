"""Planted truth: a small random transformer whose teacher differs from it by low-rank updates of known ranks."""
