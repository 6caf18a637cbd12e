"""``python -m autolora``, for accelerate launch."""

# Python has put the current folder in front of its path. What lies there is not to be imported instead of what a module
# means, and the next import would: so nothing is imported before the folder is gone, or, where autolora itself lies in
# it, behind everything else.
import sys

if __name__ == "__main__" and not sys.flags.safe_path and sys.path:
    _here, _package = sys.path.pop(0), __file__.replace("\\", "/").rsplit("/", 2)[0]
    if _here.replace("\\", "/").rstrip("/") == _package:
        sys.path.append(_here)

if __name__ == "__main__":
    from autolora.cli import main

    main()
