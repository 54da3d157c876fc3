"""What of a stranger's file is kept, and how it is looked at."""
