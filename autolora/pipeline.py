"""The stages of an experiment: recipe → data and model → search → ranks → retrain → adapter → eval → tables.

    run = Run.create(Path("runs"), load_recipe(Path("cola.yaml")))
    lab = Lab(run.recipe)
    search(run, lab)
    retrain(run, lab)
    evaluate(run, lab)

Each stage goes on from its last checkpoint if there is one that belongs to it. What is searched for and what is trained
is the recipe's method (`autolora.methods`).
"""

from autolora.lab import Lab, make_accelerator
from autolora.methods.base import read_ranks
from autolora.stages.evaluate import evaluate, submit
from autolora.stages.retrain import retrain
from autolora.stages.search import search

__all__ = ["Lab", "evaluate", "make_accelerator", "read_ranks", "retrain", "search", "submit"]
