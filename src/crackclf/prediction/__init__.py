"""A saved model answers for patches."""
