"""Online: a network that takes single steps, on a row, on a batch, or by its gradients."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from siglin._data.arrays import (
    Array,
    ArrayLike,
    check_not_negative,
    check_positive,
    check_real,
)
from siglin._data.rows import check_finite, check_row, check_weights
from siglin._data.sparse import Rows, RowsLike
from siglin._data.targets import check_row_targets
from siglin._passes import Passes
from siglin._training import engine
from siglin._training.optimizers import (
    PLAIN_DESCENT,
    GradientDescent,
    Optimizer,
    check_optimizer,
)
from siglin._training.settings import Settings

Result = TypeVar("Result")

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack  # of typing from Python 3.11 on

    class StepOptions(TypedDict, total=False):
        """What `Online.learn_one` takes besides lr."""

        optimizer: str | Optimizer
        sample_weight: float | None
        l1: float
        l2: float
        dropout: float
        clip_norm: float | None


class Online(Passes):
    """Passes, and single steps, with the memory of an optimiser's name between them."""

    @property
    def _online(self) -> dict[str, Optimizer]:
        """By their names, the optimisers that it has kept: one at most between steps."""
        kept: dict[str, Optimizer] = vars(self).setdefault("_online", {})
        return kept

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        kept = {name: copy.copy(one) for name, one in [*self._online.items()]}
        return state | {"_online": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        vars(self)["_online"] = state.pop("_online", {})
        super().__setstate__(state)

    def update(
        self,
        lr: float | None = None,
        *,
        optimizer: str | Optimizer = "gd",
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        """Take one step by `grads`: params -= lr * grads, or an optimiser's.

        Parameters
        ----------
        lr : float, optional
            Step size, dimensionless, finite. Of plain descent without an option a
            negative one climbs and 0 changes nothing; else > 0. None is the optimiser's,
            as in `fit`.
        optimizer : str or object, default "gd"
            As in `learn_one`.
        l1, l2, clip_norm
            As in `fit`: the penalties' gradients are added, then the 2-norm is clipped.
            `grads` stays as it is.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another kind or out of range.
        DivergenceError
            If a parameter would no longer be finite. Then the parameters are as they
            were, and the optimiser's memory is forgotten. (Plain descent without an
            option does not look.)
        RuntimeError
            If another thread fits the network ("busy").

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(2)
        >>> net.grads = [1, 2]
        >>> net.update(0.5)
        >>> net.params
        array([-0.5, -1. ])
        >>> net.update(0.5, optimizer="adam")
        >>> net.params.round(6)
        array([-1. , -1.5])
        """
        penalised = any(type(one) is not float or one != 0 for one in (l1, l2))
        plain = isinstance(optimizer, str) and optimizer == "gd"
        if plain and not penalised and clip_norm is None:
            size = GradientDescent.default_lr if lr is None else lr
            size = check_real("update", "lr", size)
            self._native.update(self._parameters, self._grads, size)
            return
        settings = self._step_settings(
            "update", lr, optimizer, l1=l1, l2=l2, clip_norm=clip_norm
        )
        self._keeping(settings, optimizer, lambda given: engine.step(self, given))

    def learn_one(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        lr: float | None = None,
        **options: "Unpack[StepOptions]",
    ) -> float:
        """Take one step on one row, and return its loss before.

        Parameters
        ----------
        x : array_like, shape (n_in,) or (1, n_in)
            Finite numbers.
        t : array_like, shape (n_out,) or (1, n_out), or a number
            Targets as in `loss`; a number for one output, or that of a class for
            "cross_entropy".
        lr : float, optional
            Step size, dimensionless, > 0. None is the optimiser's, as in `fit`.
        optimizer : str or object, default "gd"
            A name as in `fit`, whose memory the network keeps from step to step: begun at
            its first step, and anew where another name comes, or after
            `reset_optimizer`. Fits do not touch it; copies and pickles have it, files do
            not. Or an object such as ``siglin.Adam()``, with its own memory.
        sample_weight : float, optional
            Multiplies the gradient of the row's loss, finite and >= 0; with 0 there is no
            step. None is 1.
        l1, l2, dropout, clip_norm
            As in `fit`.

        Returns
        -------
        float
            The loss of this row with the parameters as they were, and the penalties; of a
            stream, the network's loss on a row that it has not seen.

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError
            As `fit`. Nothing is changed then.
        DivergenceError
            If the loss or a parameter would no longer be finite. The parameters are as
            they were; the optimiser's memory is forgotten.
        RuntimeError
            If the network or the optimizer is busy with a fit.

        Notes
        -----
        The step has the bits of ``fit(x[None, :], t[None, :], lr=lr)``, or of a fit with
        the same options. Plain descent takes a microsecond or two in a network of at most
        4096 parameters, given arrays of the network's dtype, or numbers; options and
        other arguments cost some ten microseconds more.

        Examples
        --------
        >>> import numpy as np
        >>> import siglin
        >>> rng = np.random.default_rng(0)
        >>> net = siglin.Network([2, 1], seed=0)
        >>> losses = []
        >>> for x in rng.normal(size=(1000, 2)):
        ...     losses.append(net.learn_one(x, float(x[0] > x[1]), lr=0.5))
        >>> bool(np.mean(losses[-100:]) < np.mean(losses[:100]) / 2)
        True
        """
        # Each default of a keyword costs a call some 10 ns, a third of a step at 2-3-1.
        if not options:
            step = GradientDescent.default_lr if lr is None else lr
            loss = self._learn_now(self._parameters, x, t, step)
            if loss is not None:
                return loss
        return self._learn_one(x, t, lr=lr, **options)

    def _learn_one(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        lr: float | None = None,
        optimizer: str | Optimizer = "gd",
        sample_weight: float | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
    ) -> float:
        """Take the step of learn_one with options, or of arguments to be checked."""
        settings = self._step_settings(
            "learn_one",
            lr,
            optimizer,
            l1=l1,
            l2=l2,
            dropout=dropout,
            clip_norm=clip_norm,
        )
        return self._learn_row(x, t, optimizer, sample_weight, settings)

    # What help and inspect show of learn_one, and what Python calls it in a message.
    learn_one.__wrapped__ = _learn_one  # type: ignore[attr-defined]

    def _learn_row(
        self,
        x: object,
        t: object,
        optimizer: str | Optimizer,
        sample_weight: float | None,
        settings: Settings,
    ) -> float:
        """Check the other arguments of learn_one, and take its step."""
        dtype = self.dtype
        weight = dtype.type(1)
        if sample_weight is not None:
            given = check_not_negative("learn_one", "sample_weight", sample_weight)
            with np.errstate(over="ignore", under="ignore"):
                weight = dtype.type(given)
            if not np.isfinite(weight):
                msg = f"learn_one: sample_weight {given} is too large for {dtype}"
                raise ValueError(msg)
        self._check_trainable("learn_one")
        plan = self._plan
        row = check_row("learn_one", "x", x, dtype, plan.sizes[0])
        check_finite("learn_one", "x", row)
        targets = check_row_targets("learn_one", t, plan.sizes[-1], plan.loss, dtype)
        if weight == 0:
            loss = self._native.loss(self._parameters, row, targets)
            return loss + self._penalty(settings)
        weights: Array | None = (
            None if weight == 1 else np.full_like(row[0, :1], weight)
        )
        return self._take(
            settings,
            optimizer,
            row,
            targets,
            weights,
            weights_scale=weights is not None,
        )

    def _penalty(self, settings: Settings) -> float:
        """Return what l1 and l2 add to a loss."""
        l1, l2 = settings.l1, settings.l2
        if l1 == 0 and l2 == 0:
            return 0.0
        views = self._plan.views(self._parameters.snapshot())
        w = np.concatenate([v.ravel() for v in views.values() if v.ndim == 2])
        return float(l1 * np.abs(w).sum() + l2 * (w * w).sum() / 2)

    def learn_many(
        self,
        x: RowsLike,
        t: ArrayLike,
        *,
        lr: float | None = None,
        optimizer: str | Optimizer = "gd",
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float = 0.0,
        clip_norm: float | None = None,
    ) -> float:
        """Take one step on a batch of rows, and return its loss before.

        Parameters
        ----------
        x : array_like or sparse matrix, shape (rows, n_in)
            Finite numbers.
        t : array_like, shape (rows, n_out)
            Targets, as in `loss`.
        lr, optimizer
            As in `learn_one`.
        sample_weight : array_like, shape (rows,), optional
            As in `fit`: how much each row counts beside the others.
        l1, l2, dropout, clip_norm
            As in `fit`.

        Returns
        -------
        float
            The mean loss of the rows, by their weights, with the parameters as they were,
            and the penalties.

        Raises
        ------
        ShapeError, DTypeError, TypeError, ValueError, DivergenceError, RuntimeError
            As `learn_one`.

        Notes
        -----
        The step has the bits of a fit of one epoch and one batch with the same options.

        Examples
        --------
        >>> import numpy as np
        >>> import siglin
        >>> rng = np.random.default_rng(0)
        >>> net = siglin.Network([2, 1], seed=0)
        >>> losses = []
        >>> for _ in range(100):
        ...     x = rng.normal(size=(32, 2))
        ...     t = (x[:, 0] > x[:, 1]).astype(float)
        ...     losses.append(net.learn_many(x, t, lr=0.1, optimizer="adam"))
        >>> losses[-1] < losses[0] / 3
        True
        """
        settings = self._step_settings(
            "learn_many",
            lr,
            optimizer,
            l1=l1,
            l2=l2,
            dropout=dropout,
            clip_norm=clip_norm,
        )
        self._check_trainable("learn_many")
        rows, targets = self._pair("learn_many", x, t, finite=True)
        weights = None
        if sample_weight is not None:
            weights = check_weights("learn_many", sample_weight, len(rows), self.dtype)
        return self._take(settings, optimizer, rows, targets, weights)

    def reset_optimizer(self) -> None:
        """Forget what an optimiser's name has kept in `learn_one`, `learn_many`, `update`.

        Examples
        --------
        >>> import siglin
        >>> net = siglin.Neuron(1)
        >>> loss = net.learn_one([1.0], 1, lr=0.1, optimizer="adam")
        >>> net.reset_optimizer()  # the next step is a first one
        """
        vars(self)["_online"] = {}

    def _take(
        self,
        settings: Settings,
        optimizer: str | Optimizer,
        x: Rows,
        t: Array,
        weights: Array | None,
        *,
        weights_scale: bool = False,
    ) -> float:
        """Take a step on checked rows, and return their loss before it."""

        def step(settings: Settings) -> float:
            return engine.learn(
                self,
                settings,
                x,
                t,
                self._generator,
                weights,
                weights_scale=weights_scale,
            )

        return self._keeping(settings, optimizer, step)

    def _step_settings(
        self,
        function: str,
        lr: float | None,
        optimizer: str | Optimizer,
        **options: Any,
    ) -> Settings:
        """Return the checked settings of one step.

        Their optimiser is for a name the one that the network keeps, or a new one.
        """
        if lr is not None:
            lr = check_positive(function, "lr", lr)  # it has no schedule
        kept = self._online.get(optimizer) if isinstance(optimizer, str) else None
        method: Optimizer
        if isinstance(optimizer, str) and optimizer == "gd":
            method = PLAIN_DESCENT[self.dtype]
        else:
            method = kept or check_optimizer(function, optimizer)
        return Settings(function, lr, method, **options)

    def _keeping(
        self,
        settings: Settings,
        optimizer: str | Optimizer,
        step: Callable[[Settings], Result],
    ) -> Result:
        """Take a step, and keep the memory of its optimiser's name alone.

        Threads that begin with a name at once share the memory that the first of them
        keeps. A refused step leaves the memory of the name before. Plain descent has none.
        """
        if not isinstance(optimizer, str) or optimizer == "gd":
            return step(settings)
        kept = self._online
        mine = settings.optimizer
        if kept.setdefault(optimizer, mine) is not mine:
            settings = settings.with_optimizer(kept[optimizer])
        try:
            result = step(settings)
        except BaseException:
            if kept.get(optimizer) is mine and mine.step_count == 0 and len(kept) > 1:
                kept.pop(optimizer, None)
            raise
        for other in [name for name in kept if name != optimizer]:
            kept.pop(other, None)
        return result


# As users know them: what Python says of a misspelt option.
for _method in (Online.update, Online.learn_many, Online.reset_optimizer):
    _method.__qualname__ = f"Network.{_method.__name__}"
Online.learn_one.__qualname__ = Online._learn_one.__qualname__ = "Network.learn_one"
