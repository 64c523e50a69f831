"""Drawn concrete: patches and whole photos with the masks of their cracks."""
