"""Searches as durable jobs: queued, worked at, taken over."""
