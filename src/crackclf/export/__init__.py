"""A saved model exported to a file for another runtime."""
