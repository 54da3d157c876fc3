"""What is told of a result: the record, its page and its plots."""
