"""Class labels as the targets of a network, and back."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import LabelBinarizer

from siglin._data.arrays import with_owned

Array: TypeAlias = npt.NDArray[Any]


class Labels:
    """What scikit-learn's LabelBinarizer does, without its checks where none can fail.

    Those take half a millisecond a call, as long as an epoch of a small network. Labels
    that are an array of the classes' own kind, all of them known, need none; others go to
    the LabelBinarizer, which raises what scikit-learn's users know.

    Parameters
    ----------
    y : array_like
        Labels, or an indicator matrix, with every class there will be.

    Attributes
    ----------
    classes : ndarray
        In order.
    kind : str
        "binary", "multiclass" or "multilabel-indicator".
    """

    def __init__(self, y: Any) -> None:
        self._binarizer = LabelBinarizer().fit(y)
        self.classes: Array = self._binarizer.classes_
        self.kind: str = self._binarizer.y_type_

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(with_owned(state))

    def codes(self, y: Any) -> Any:
        """Return the numbers of the labels' classes, or None if that needs checks.

        Parameters
        ----------
        y : object
        """
        if (
            not isinstance(y, np.ndarray)
            or y.ndim != 1
            or y.dtype.kind not in "biufU"
            or y.dtype.kind != self.classes.dtype.kind
            or self.kind not in ("binary", "multiclass")
        ):
            return None
        codes = np.searchsorted(self.classes, y)
        codes[codes == len(self.classes)] = 0
        return codes if (self.classes[codes] == y).all() else None

    def encode(self, y: Any, codes: Any = None) -> Array:
        """Return the targets, of shape (rows, 1) for two classes, else a column each.

        Parameters
        ----------
        y : array_like
            The labels.
        codes : ndarray of int, optional
            What `codes` made of them.
        """
        if codes is None:
            codes = self.codes(y)
        if codes is None:
            targets: Array = self._binarizer.transform(y)
        elif self.kind == "binary":
            targets = (codes == 1)[:, None]
        else:
            targets = np.zeros((len(codes), len(self.classes)))
            targets[np.arange(len(codes)), codes] = 1
        return targets

    def decide(self, outputs: Array) -> Array:
        """Return each row's number of a class, or its row of an indicator matrix.

        Parameters
        ----------
        outputs : ndarray, shape (rows, n_outputs)
            Probabilities, or targets.
        """
        if self.kind == "multiclass":
            numbers: Array = outputs.argmax(axis=1)
            return numbers
        likely: Array = (outputs > 0.5).astype(np.intp)
        return likely[:, 0] if self.kind == "binary" else likely

    def decode(self, outputs: Array) -> Any:
        """Return each row's class, or its row of an indicator matrix.

        That is sparse where the one that this was made from is.

        Parameters
        ----------
        outputs : ndarray, shape (rows, n_outputs)
        """
        decided = self.decide(outputs)
        if decided.ndim == 2:
            sparse = self._binarizer.sparse_input_
            return self._binarizer.inverse_transform(decided) if sparse else decided
        if len(self.classes) == 1:
            decided[:] = 0
        return self.classes[decided]
