"""What the docstrings of the two MLPs have in common."""

from textwrap import dedent

PARAMETERS = """
hidden_layer_sizes : array_like of int, or int, default (100,)
    Neurons of each hidden layer.
activation : str or list of str, default "relu"
    Of all hidden layers, or one for each: "identity", "logistic", "tanh" or "relu".
solver : str or object, default "adam"
    "adam", "sgd" (gradient descent with momentum), or "lbfgs" (SciPy's L-BFGS-B on
    all rows at once, in float64 also where the result is float32). Or one of siglin's
    optimisers, such as ``siglin.Adam()``, whose memory goes on across fits, and whose
    ``lr``, if it has one, comes before ``learning_rate_init``.
alpha : float, default 0.0001
    Strength of the penalty alpha w^2 / 2 on the weights, divided by the weight of
    the batch's rows.
batch_size : int or "auto", default "auto"
    Rows to a step, not with lbfgs; "auto" is 200, or all if they are fewer.
learning_rate : str, default "constant"
    With sgd: "constant"; "invscaling" divides the first step size by (t_ + 1) to
    the power of ``power_t`` after each epoch; "adaptive" divides it by 5 where the
    training would have stopped, until it is 1e-6.
learning_rate_init : float or callable, default 0.001
    The first step size; or a function of the epoch, counted from 0, that returns the
    epoch's.
power_t : float, default 0.5
    See ``learning_rate``.
max_iter : int, default 200
    Epochs at most, or iterations of lbfgs.
shuffle : bool, default True
    Whether each epoch takes the rows in a new order.
random_state : int, RandomState or None
    Draws the first weights, the rows held out and the shuffles, the same numbers
    in the same order as scikit-learn's class.
tol : float, default 1e-4
    An epoch that does not improve by more is one without improvement. With lbfgs,
    the size of the projected gradient at which to stop.
verbose : bool, default False
    Whether to print each epoch's loss.
warm_start : bool, default False
    Whether `fit` goes on from the weights it finds.
momentum : float, default 0.9
    With sgd, how much of the last step stays, in [0, 1].
nesterovs_momentum : bool, default True
    Whether the momentum is Nesterov's.
early_stopping : bool, default False
    Whether to hold rows out, to count improvements of the score on them instead of
    those of the training loss, and to end with the weights of the best score. With
    `partial_fit`, the rows held out of its first call judge every call, and those
    after ``stopped_`` change nothing.
validation_fraction : float, default 0.1
    How much to hold out, in [0, 1).
beta_1, beta_2 : float, default 0.9 and 0.999
    With adam, how much of the averages of g and g^2 stays, in [0, 1).
epsilon : float, default 1e-8
    With adam, what keeps its division finite.
n_iter_no_change : int, default 10
    Stop after more epochs in a row than this without improvement.
max_fun : int, default 15000
    Evaluations of the loss by lbfgs at most.
"""

MORE_PARAMETERS = """
l1 : float, default 0.0
    Strength of the penalty l1 |w|, counted as ``alpha``'s; not with lbfgs. This and
    what follows scikit-learn does not have.
dropout : float, default 0.0
    Each step drops each output of a hidden layer with this probability, in [0, 1),
    and divides the others by 1 - dropout; not with lbfgs.
clip_norm : float, optional
    Gradients of a larger 2-norm are scaled to this one; not with lbfgs.
keep_optimizer : bool, default False
    Whether a fit with ``warm_start`` goes on with the optimiser's momentum and step
    size too; one with another optimiser or other settings of it starts anew, a new
    ``learning_rate_init`` is taken up.
callback : callable, optional
    Called after each epoch with a state of ``epoch``, ``step``, ``loss``,
    ``params`` (read-only) and ``validation_loss``; returning True stops. Not with
    lbfgs.
"""

ATTRIBUTES = """
coefs_, intercepts_ : list of ndarray
    The weights (n_in, n_out) and biases (n_out,) of each layer. What is written
    into them is what `predict` uses.
loss_ : float
    Of the last epoch: the mean over its rows of the loss before each update, with
    the penalty.
loss_curve_ : list of float
    That of every epoch; not with lbfgs.
best_loss_ : float or None
    The smallest of them; None with early stopping.
validation_scores_, best_validation_score_
    With early stopping, the scores of the epochs, and the best; else None.
validation_loss_curve_ : list of float
    With early stopping, the loss of the rows held out, after each epoch.
stopped_ : bool
    With early stopping, whether the score ended the training.
n_iter_ : int
    Epochs of the last fit.
t_ : int
    Rows seen.
n_layers_, n_outputs_ : int
out_activation_ : str
"""

MORE_ATTRIBUTES = """
n_features_in_ : int
feature_names_in_ : ndarray
    If X had names for its columns, all of them str.
"""

NOTES = """
Raises
------
ValueError
    If a parameter is out of range, X or y is not what it can train on, or the
    weights become infinite.

Warns
-----
ConvergenceWarning
    If the training ends with ``max_iter``.

Notes
-----
The same ``random_state`` gives the same model as scikit-learn's class to rounding;
a loss differs where probabilities are so near 0 or 1 that scikit-learn has rounded
them. The loop is native, for sparse rows too, and Ctrl-C ends a fit with a warning, at
the weights of the last whole step.
`partial_fit` pays up to 1 ms for scikit-learn's checks before its first step; a loop
that learns from single rows in microseconds is `siglin.Network`'s.
"""


def documented(
    summary: str,
    *,
    first: str = "",
    last: str = "",
    out_activation: str,
    attributes: str = "",
    examples: str,
) -> str:
    """Return the docstring of an MLP.

    Parameters
    ----------
    summary : str
        What the class is.
    first, last : str
        The class's own parameters: before all others, and before those that scikit-learn
        does not have.
    out_activation : str
        What that attribute says.
    attributes : str
        The class's own attributes.
    examples : str
        Of its use.
    """
    sections = [
        [summary],
        ["Parameters\n----------", first, PARAMETERS, last, MORE_PARAMETERS],
        [
            "Attributes\n----------",
            ATTRIBUTES,
            f"    {out_activation}",
            attributes,
            MORE_ATTRIBUTES,
        ],
        [NOTES],
        ["Examples\n--------", examples],
    ]
    return "\n\n".join(
        "\n".join(_trimmed(part) for part in parts if part) for parts in sections
    )


def _trimmed(part: str) -> str:
    """Return a part without the indentation and the empty lines around it."""
    return dedent(part).strip("\n").rstrip() if "\n" in part else part
