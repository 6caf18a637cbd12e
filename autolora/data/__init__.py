"""From files, the hub or the grammar to splits and batches."""
