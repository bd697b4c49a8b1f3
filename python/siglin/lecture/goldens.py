"""The lecture's golden values, with the tolerance each is compared with.

Every value was computed on its own, apart from siglin: the worked example with 50-digit
arithmetic and rounded once, the descent runs with 40 digits, the Iris run with a plain
float64 loop. They stand for weights ``w (n_in, n_out)`` and rows of samples.
"""

import numpy.typing as npt

# One row through 2 inputs, 3 hidden units and 1 output, without biases. Per target: the
# chain rule's values, exactly rounded. Derivatives from the pre-activations meet them
# within a few rounding errors; the form h * (1 - h) would lose digits at h1 and h3.
WORKED_EXAMPLE_RTOL = 1e-12
WORKED_EXAMPLE: dict[int, dict[str, npt.ArrayLike]] = {
    1: {
        "h": [[0.9999832985781519, 0.7310585786300049, 0.9999938558253978]],
        "y": [[0.5903780017149114]],
        "J": 0.5269922663580126,
        "dJ/dy": [[-1.6938300497227734]],
        "dJ/dV": [
            [-0.40961515701529694],
            [-0.29945767584187916],
            [-0.4096194814960102],
        ],
        "dJ/dh": [[-0.040962199828508856, -0.20481099914254428, 0.040962199828508856]],
        "dJ/dW": [
            [-3.4205777663431093e-06, -0.20134143245267555, 1.2583868073900737e-06],
            [-2.0523466598058656e-06, -0.12080485947160534, 7.550320844340442e-07],
        ],
        "dJ/dx": [[0.04026835740706628, -0.08053819288953824]],
    },
    0: {
        "h": [[0.9999832985781519, 0.7310585786300049, 0.9999938558253978]],
        "y": [[0.5903780017149114]],
        "J": 0.8925204999482904,
        "dJ/dy": [[2.441275137044814]],
        "dJ/dV": [[0.590368141562855], [0.43160090278812574], [0.5903743743293876]],
        "dJ/dh": [[0.05903780017149115, 0.2951890008574557, -0.05903780017149115]],
        "dJ/dW": [
            [4.929993688958608e-06, 0.2901884006510291, -1.813681618276514e-06],
            [2.9579962133751645e-06, 0.17411304039061745, -1.0882089709659085e-06],
        ],
        "dJ/dx": [[-0.058037782340438986, 0.11607769499421086]],
    },
}

# 100 descent steps of 0.1 on that row; "turned" is the same network after 100 more steps
# to the other target. Float64 runs meet them within 1e-14.
SANITY_RUN_RTOL = 1e-12
SANITY_RUN: dict[int, dict[str, npt.ArrayLike]] = {
    1: {
        "loss before step 1": 0.5269922663580126,
        "loss before step 2": 0.48047198584223616,
        "loss before step 11": 0.2465620158233258,
        "loss before step 51": 0.0672543218488237,
        "loss before step 100": 0.03448506223479386,
        "loss after": 0.034141789487168936,
        "score after": 0.9664344646751946,
        "W after": [
            [1.0000497297528936, -0.6491393784192143, 3.00001213030991],
            [2.0000298378517365, 2.210516372948473, -0.9999927218140535],
        ],
        "V after": [[1.1037623588497871], [1.3983862947331196], [0.9037729541481682]],
        "loss turned": 0.0528516398657626,
        "score turned": 0.051479275293957766,
    },
    0: {
        "loss before step 1": 0.8925204999482904,
        "loss before step 2": 0.796707332383424,
        "loss before step 11": 0.3762870093686617,
        "loss before step 51": 0.10140450980687303,
        "loss before step 100": 0.051389921760579646,
        "loss after": 0.05086510065081145,
        "score after": 0.049593128846474724,
        "W after": [
            [1.0000756999774179, -1.2699113919803013, 3.0000368440536818],
            [2.0000454199864492, 1.8380531648118197, -0.99997789356779],
        ],
        "V after": [
            [-1.3635066446561912],
            [-0.08608621965432242],
            [-1.5635220925771103],
        ],
        "loss turned": 0.04278860436076605,
        "score turned": 0.9581139097627994,
    },
}

# Iris setosa (0) against the rest (1): sepal length, sepal width and ones, full batch
# from zeros. Each step shrinks the rounding errors of those before it, so that after all
# updates theta is the same within 1e-14 for other orders of summation, with and without
# fused multiply-adds, and the counts are exact.
IRIS_LR = 0.1
IRIS_TOL = 5e-5
IRIS_UPDATES = 234_669
IRIS_CORRECT = 150
IRIS_RTOL = 1e-12
IRIS_THETA = [11.659769422107052, -12.815308476068532, -23.120537655419756]
IRIS_LOSS = 0.00909609867283488
IRIS_THETA_AFTER = {
    1: [0.1253, 0.038599999999999995, 0.016666666666666666],
    10: [0.2150851879229263, -0.14288993888587806, -0.007302562924998217],
    100: [0.9337707924852017, -1.4227850862496625, -0.17691976729569753],
    1_000: [2.964467734215497, -4.838076877858513, -0.7914707447762307],
    10_000: [5.8557325809464045, -9.210047267597293, -2.997190562921973],
    100_000: [9.339148045872012, -11.613652009003431, -14.498494710510691],
}

# Points of the plane with a score of one half or more: columns are sepal lengths, rows
# are sepal widths, both in centimetres, as (start, stop, step).
GRID_LENGTH = (3.3, 8.9, 0.02)
GRID_WIDTH = (1.0, 5.4, 0.02)
GRID_SHAPE = (220, 280)
GRID_POINTS = 37_355

# The perceptron on the same rows in millimetres, where every number is a whole one and
# the rule is free of rounding: epochs up to the first without a mistake, mistakes made.
PERCEPTRON_EPOCHS = 684
PERCEPTRON_MISTAKES = 1_484
PERCEPTRON_THETA = [783.0, -1002.0, -1220.0]

# The activations at linspace(-5, 5, 50).
ACTIVATION_POINTS = (-5.0, 5.0, 50)
ACTIVATION_RTOL = 1e-12
SIGMOID_ENDS = [0.0066928509242848554, 0.9933071490757153]
SIGMOID_SUM = 25.0
TANH_ENDS = [-0.9999092042625951, 0.9999092042625951]
RELU_SUM = 63.77551020408164
STEP_ONES = 25
