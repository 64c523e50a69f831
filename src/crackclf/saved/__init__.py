"""The saved folder: written by learning, read by answering."""
