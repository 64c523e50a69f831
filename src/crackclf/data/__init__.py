"""Folders of images become train, validation and test sets."""
