"""What the stages of one run share, and how a stage runs its steps."""
