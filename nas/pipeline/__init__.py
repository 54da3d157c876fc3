"""From a request to a model that is handed over: a file for each stage."""
