"""coefs_ and intercepts_: an MLP's parameters, as views of a network's."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from siglin._data.arrays import Array, with_owned
from siglin._data.sparse import rows_of
from siglin._network import Network
from siglin.estimators._checked import checked, viewable

# What scikit-learn calls siglin's activations.
ACTIVATIONS = {
    "identity": "identity",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
}


class HasNetwork(BaseEstimator, ABC):
    """An estimator that keeps a network, and shows its parameters as scikit-learn does."""

    activation: str | list[str]
    hidden_layer_sizes: Any
    n_outputs_: int

    @abstractmethod
    def _output(self) -> tuple[str, str, str]:
        """Return out_activation_, and siglin's names of it and of the loss."""

    def _activations(self, count: int) -> list[str]:
        """Return a name for each hidden layer, and go on with the last one."""
        if isinstance(self.activation, str):
            return [self.activation] * count
        names = list(self.activation)
        sizes = self.hidden_layer_sizes
        layers = len(list(sizes)) if isinstance(sizes, Iterable) else 1
        if len(names) != layers or any(name not in ACTIVATIONS for name in names):
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, or one of them for "
                f"each of {layers} hidden layers, got {self.activation!r}"
            )
        return (names + names[-1:] * count)[:count] if names else ["relu"] * count

    def _adopt(self, network: Network) -> None:
        self._network = network
        self.coefs_ = [layer.w for layer in network.layers]
        self.intercepts_ = [layer.b for layer in network.layers]

    def _new_network(self, sizes: list[int], dtype: Any) -> Network:
        """Return a network of these sizes whose parameters are 0."""
        hidden = self._activations(len(sizes) - 2)
        _, output, loss = self._output()
        return Network(
            sizes,
            activation=[ACTIVATIONS[name] for name in hidden],
            output_activation=output,
            loss=loss,
            init="zeros",
            dtype=dtype,
            seed=0,  # nothing is drawn from it
        )

    def _present(self) -> Network:
        """Return the network, also if the user has put other arrays into coefs_."""
        known: Network | None = vars(self).get("_network")
        coefs, intercepts = self.coefs_, self.intercepts_
        if known is not None and self._is_of(known):
            return known
        wide = any(w.dtype.newbyteorder("=") != np.float32 for w in coefs)
        sizes = [coefs[0].shape[0], *(w.shape[1] for w in coefs)]
        network = self._new_network(sizes, np.float64 if wide else np.float32)
        for layer, w, b in zip(network.layers, coefs, intercepts, strict=True):
            layer.w[...] = w
            layer.b[...] = b  # type: ignore[index]
        return network

    def _is_of(self, network: Network) -> bool:
        """Return whether a network has these parameters, and the present activations."""
        layers = network.layers
        coefs, intercepts = self.coefs_, self.intercepts_
        names = self._activations(len(layers) - 1)
        return (
            len(coefs) == len(intercepts) == len(layers)
            and all(layer.w is w for layer, w in zip(layers, coefs, strict=True))
            and all(layer.b is b for layer, b in zip(layers, intercepts, strict=True))
            and all(
                layer.activation == ACTIVATIONS[name]
                for layer, name in zip(layers, names, strict=False)
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_network", None)  # coefs_ and intercepts_ say it all
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(with_owned(state))
        if "coefs_" in state:
            self._adopt(self._present())

    # ---- prediction ------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs for the rows of X."""
        check_is_fitted(self)
        return self._outputs_of(checked(self, X, accept_sparse="csr", reset=False))

    def _outputs_of(self, X: Any) -> Array:
        """Return the outputs in the wider dtype of X and the parameters."""
        network = self._present()
        dtype = np.result_type(network.dtype, X.dtype)
        if dtype != network.dtype:
            network = network.astype(dtype)
        if not issparse(X):
            return network.predict(viewable("X", X, dtype))
        return network._native.predict(network._parameters, rows_of(X, dtype))
