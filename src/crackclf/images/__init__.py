"""The one place where a file becomes pixels."""
