"""The bilevel search for the selection variables (paper, section 3)."""
