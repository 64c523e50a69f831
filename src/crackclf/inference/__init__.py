"""A saved model answers for files, folders and arrays."""
