"""Tells cracked concrete from sound concrete by Keras transfer learning.

Learning is done in Keras, answering without it: the saved folder stands between. The names that a
notebook needs are listed in `__init__.pyi`. Each is imported when it is first used, so importing
the package is quick, and answering never imports TensorFlow.
"""

import lazy_loader

__version__ = "0.3.0"
_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    from crackclf.errors import learning

    with learning():
        return globals().setdefault(name, _find(name))
