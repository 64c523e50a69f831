"""A web page on this machine."""
