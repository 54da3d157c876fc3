"""The service over HTTP: a module for each kind of thing it serves."""
