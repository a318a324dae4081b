"""scikit-learn's own checks of an estimator, and pictures through it."""

import pickle

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_classical import noisy_stripes

from lamina.sklearn import LaminaClassifier


@parametrize_with_checks([LaminaClassifier(epochs=20)])
def test_check_estimator(estimator, check):
    check(estimator)


def test_pictures_and_pickling():
    """Pictures in, labels of any kind out; a pickled one answers with the same numbers; cross-validation takes it."""
    x, y = noisy_stripes(240)
    labels = np.array([{"rows": -1, "columns": 7}[label] for label in y])
    model = LaminaClassifier(epochs=6).fit(x, labels)
    assert model.score(x, labels) > 0.9 and set(model.predict(x)) == {-1, 7}
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x[:20]), model.predict_proba(x[:20]))
    assert cross_val_score(LaminaClassifier(epochs=3), x, labels, cv=2).mean() > 0.8
    with pytest.raises(ValueError, match="class"):
        LaminaClassifier().fit(x, np.zeros(len(x)))
