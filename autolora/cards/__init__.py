"""Model cards of runs, and runs on the hub."""
