"""One experiment, from the recipe to the table: preflight, and the line of its stages."""
