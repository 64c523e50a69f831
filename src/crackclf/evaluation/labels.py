"""Labels that are probably wrong."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crackclf.errors import UserError

_FOLDS = 5


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
    # Weights are many, so they are held strongly, and as strongly whatever the number of images.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=10 / len(labels), max_iter=200))
    said = cross_val_predict(model, features, labels, groups=keys, cv=folds, method="predict_proba")
    return np.asarray(said)[np.arange(len(labels)), labels]
