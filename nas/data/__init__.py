"""Data from people's files to encoded examples."""
