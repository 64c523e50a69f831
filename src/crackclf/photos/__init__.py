"""Whole photos: maps of crack probability, traced cracks, tables and a report."""
