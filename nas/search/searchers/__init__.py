"""One searcher a file. :mod:`nas.search.registry` lists them by the names that users give."""
