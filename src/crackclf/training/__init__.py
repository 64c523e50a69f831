"""Callbacks and the fit."""
