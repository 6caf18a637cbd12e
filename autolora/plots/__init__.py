"""Figures as PNG files (and the rank map for the terminal): the same input gives the same bytes."""
