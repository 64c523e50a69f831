"""Whole photos become maps, regions, folders and reports."""
