"""The service as processes: its socket, its log, its figures, and what it forks."""
