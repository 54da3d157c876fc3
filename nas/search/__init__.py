"""From a latency budget to an architecture: searchers, constraints, fronts and score caches.

Kept free of imports; :func:`nas.search.search.run_search` is the way in.
"""
