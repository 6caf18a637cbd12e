"""Hypergradient estimators. A new one is a module with `estimate` (see `autolora.search.bilevel`) and one line."""

ESTIMATORS: dict[str, str] = {
    "central_difference": "autolora.search.estimators.central_difference:estimate",
    "forward_difference": "autolora.search.estimators.forward_difference:estimate",
    "exact": "autolora.search.estimators.exact:estimate",
    "first_order": "autolora.search.estimators.first_order:estimate",
}
