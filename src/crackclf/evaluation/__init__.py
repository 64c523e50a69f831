"""Labels and probabilities become figures and plots; no framework needed."""
