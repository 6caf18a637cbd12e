"""What a machine has that autolora needs or could use: ``autolora doctor``."""
