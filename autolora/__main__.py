"""``python -m autolora``, for accelerate launch."""

from autolora.cli import main

main()
