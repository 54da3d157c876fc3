"""The commands of ``latency``, a file for each purpose."""
