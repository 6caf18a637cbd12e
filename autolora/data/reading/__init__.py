"""Data files as rows of cells, a format a file: ``open_table(Source(path))`` of `autolora.data.reading.formats`."""
