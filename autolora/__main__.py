"""``python -m autolora``, for accelerate launch."""

from autolora.cli import main

if __name__ == "__main__":
    main()
