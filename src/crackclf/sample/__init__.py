"""Drawn concrete: patches and whole photos with masks, to try everything on."""
