"""Labels that are probably wrong."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crackclf.errors import UserError

_FOLDS = 5
_ENOUGH = 10_000  # Images to learn from; more cost memory and change little.


def label_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[object]
) -> np.ndarray:
    """Estimates how probable each image's label is, by a model that has not seen the image.

    The model is a logistic regression on the features, cross-validated in five folds, as in
    confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70:1373).

    Args:
        features: float of shape (n, channels), e.g. of a frozen base.
        labels: int of shape (n,), 0 or 1.
        groups: n keys; images of equal keys, such as copies, are kept in one fold.

    Returns:
        float of shape (n,) in 0..1; low where the label is probably wrong.

    Raises:
        UserError: when a class has images of fewer than five groups.

    Example:

    ```python
    suspicious = np.argsort(label_probabilities(features, labels, digests))[:50]
    ```
    """
    keys = np.asarray(groups)
    independent = min(len(np.unique(keys[labels == label])) for label in (0, 1))
    if independent < _FOLDS:
        raise UserError(
            f"expected at least {_FOLDS} images of each class that are not copies of one another. "
            f"Received: {independent}."
        )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    rng, own = np.random.default_rng(0), np.empty(len(labels))
    for train, test in folds.split(keys, labels, keys):
        train = rng.permutation(train)[:_ENOUGH]
        # Features are many, so regularisation is strong, and the same for few images and many.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=8 / len(train), max_iter=200))
        model.fit(np.asarray(features[train], np.float32), labels[train])
        for part in np.array_split(test, len(test) // _ENOUGH + 1):
            said = model.predict_proba(np.asarray(features[part], np.float32))
            own[part] = said[np.arange(len(part)), labels[part]]
    return own
