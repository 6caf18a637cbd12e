"""How many compiled products a process keeps on a CPU: ``bound_kernels()``, where a process of autolora's own begins.

oneDNN compiles a product for each combination of shapes (rows, inputs, outputs) that it meets, some half MiB a piece,
and torch keeps the last 1024 of them in either of two caches. Batches of many lengths times ranks of many sizes are
many shapes, by which a training grows beside one with a single rank. A step has some dozens of them; what is compiled
again gives the same bits. Passes in bfloat16 are by oneDNN, those in float32 mostly are not.

Both variables are read once, when the first product is compiled, and hold for the process from then on: they cannot be
set around single passes. So commands and the processes of trials set them where they begin; the process of somebody who
imports autolora is left as it is. Whoever has set one has said it.
"""

from __future__ import annotations

import os

KEPT = 256
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's own; torch's, in front of it


def bound_kernels() -> None:
    """Keep `KEPT` at most, in this process and in those that it starts."""
    for variable in VARIABLES:
        os.environ.setdefault(variable, str(KEPT))
