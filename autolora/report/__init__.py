"""Tables and figures, in the terminal and as files."""
