"""Hypergradient estimators. A new one is a module with `estimate` (see `autolora.bilevel.problem.Estimator`)."""
