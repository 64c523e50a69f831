"""Labels that are probably wrong."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crackclf.errors import UserError

_FOLDS = 5
_ENOUGH = 10_000  # Images to learn from at a time; more would cost memory and tell little more.


def label_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[object]
) -> np.ndarray:
    """How probable each image's own label is to a model that has not seen it.

    A logistic regression on the features, cross-validated: each image is judged by the model of the
    other folds (as confident learning does it: Northcutt, Jiang & Chuang 2021, JAIR 70:1373).

    Args:
        features: float of shape (n, channels), e.g. of a frozen base.
        labels: int of shape (n,), 0 or 1.
        groups: n keys; equal ones are kept in one fold, so that no copy vouches for another.

    Returns:
        float of shape (n,) in 0..1; low where the label is probably wrong.

    Raises:
        UserError: when a class has fewer than five images that are no copies of one another.

    Example:

    ```python
    suspicious = np.argsort(label_probabilities(features, labels, digests))[:50]
    ```
    """
    keys = np.asarray(groups)
    independent = min(len(np.unique(keys[labels == label])) for label in (0, 1))
    if independent < _FOLDS:
        raise UserError(
            f"expected at least {_FOLDS} images of each class that are no copies of one another. "
            f"Received: {independent}."
        )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    rng, own = np.random.default_rng(0), np.empty(len(labels))
    for train, test in folds.split(keys, labels, keys):
        train = rng.permutation(train)[:_ENOUGH]
        # Weights are many, so they are held strongly, and as strongly for few images as for many.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=8 / len(train), max_iter=200))
        model.fit(np.asarray(features[train], np.float32), labels[train])
        for part in np.array_split(test, len(test) // _ENOUGH + 1):
            said = model.predict_proba(np.asarray(features[part], np.float32))
            own[part] = said[np.arange(len(part)), labels[part]]
    return own
