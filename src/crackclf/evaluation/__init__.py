"""Labels and probabilities become figures and plots; no framework needed."""

import lazy_loader

# With the first plot, not before: matplotlib is slow to import.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["plots"])
