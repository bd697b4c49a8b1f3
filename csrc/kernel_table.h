// What every target offers, and the contracts of the operations.
// Kernels know no Python, no threads and no allocation; workspaces come from the
// caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "view.h"

namespace siglin {

enum class Activation : int {
#define SIGLIN_ACTIVATION(name, largest, steepest) name,
#include "activations.inc"
};

enum class Loss : int {
#define SIGLIN_LOSS(name, from_logits) name,
#include "losses.inc"
};

// Whether a loss starts from the last layer's pre-activations, else from its outputs.
// (always_inline: as a symbol it would be that of one target.)
[[gnu::always_inline]] constexpr bool from_logits(Loss loss) {
    switch (loss) {
#define SIGLIN_LOSS(name, from_logits) \
    case Loss::name:                   \
        return from_logits;
#include "losses.inc"
    }
    return false;
}

enum class Optimizer : int {
#define SIGLIN_OPTIMIZER(name, vectors, ...) name,
#include "optimizers.inc"
};

// A loss, and its number where it has one: delta of huber, the quantile of quantile.
struct LossChoice {
    Loss kind;
    double number = 0;
};

// a = activation(x @ w + b), and derivative = activation'(x @ w + b) if its data is
// given. x (batch, n_in), w (n_in, n_out), b (n_out) or null, a and derivative (batch,
// n_out). a[i, j] starts from b[j] and is a chain of multiply-adds over n_in in order,
// cut into blocks (kDepth), the later ones starting from 0 and added: the same bits for
// a row alone and in any batch.
template <class T>
struct ForwardArgs {
    MatrixView<const T> x;
    MatrixView<const T> w;
    const T* b;
    Activation activation;
    MatrixView<T> a;
    MatrixView<T> derivative;  // data null: not wanted
    T* workspace;              // KernelTable::workspace_bytes
    const T* packed =
        nullptr;  // w as pack_panels leaves it (then w is not read), or null
};

// z = x @ w + b for `rows` rows of x, in the order given (null: as they lie). w (n_in,
// n_out), b (n_out) or null, z (rows, n_out). z[i, j] starts from b[j] and is a chain
// of multiply-adds over the values of the row.
template <class T>
struct SparseForwardArgs {
    SparseView<T> x;
    const index_t* order;
    index_t rows;
    MatrixView<const T> w;
    const T* b;
    T* z;
};

// dw += x.T @ (scale * dz), in the columns [begin, end) of x, which are rows of dw. dz
// (rows, n_out) and dw (n_in, n_out) are contiguous. An element is a chain of
// multiply-adds over the rows.
template <class T>
struct SparseGradientArgs {
    SparseView<T> x;
    const index_t* order;
    index_t rows;
    const T* dz;
    index_t n_out;
    T scale;
    index_t begin;
    index_t end;
    T* dw;
};

// dx = (dz @ w.T) * factor. dz (batch, n_out), w (n_in, n_out), dx (batch, n_in); with
// a factor, it and dx are contiguous. Of relus the factor may be what they returned,
// which stands for their derivatives: 1 where it is positive, else 0.
template <class T>
struct InputGradientArgs {
    MatrixView<const T> dz;
    MatrixView<const T> w;
    MatrixView<T> dx;
    const T* factor;  // null: 1
    T* workspace;
    const T* packed = nullptr;  // w, transposed, as pack_panels leaves it, or null
    bool factor_is_relu = false;
};

// dw = x.T @ dz, or with accumulate dw += x.T @ dz. With w, w -= lr * (that), and dw,
// whose contents are then undefined, may be null unless it is accumulated or the batch
// is deeper than kDepth. dw (n_in, n_out) is contiguous. The rows of w are w_step apart
// (0: n_out); with w_panel they are of one block of depth of w packed, so far from
// panel to panel. Where w_step is whole vectors, what is past n_out may be written with
// what was there, if that is 0.
template <class T>
struct WeightGradientArgs {
    MatrixView<const T> x;
    MatrixView<const T> dz;
    T* dw;
    bool accumulate;
    T* workspace;
    const T* packed = nullptr;  // dz as pack_panels leaves it, or null
    T* w = nullptr;
    T lr = 0;
    index_t w_step = 0;
    index_t w_panel = 0;  // 0 or tile_cols: not packed
};

// The chain of multiply-adds of a product is cut into blocks of at most kDepth, about
// even ones: block d is [depth_begin(k, d), depth_begin(k, d + 1)). Every tile's rows
// and columns divide the unit, so none lies across two blocks of a packed matrix.
// (always_inline: as symbols they would be those of one target.)
inline constexpr index_t kDepth = 384;
inline constexpr index_t kDepthUnit = 96;

[[gnu::always_inline]] constexpr index_t depth_blocks(index_t k) {
    return (k + kDepth - 1) / kDepth;
}

[[gnu::always_inline]] constexpr index_t depth_begin(index_t k, index_t d) {
    const index_t units = (k + kDepthUnit - 1) / kDepthUnit;
    const index_t begin = units * d / depth_blocks(k) * kDepthUnit;
    return begin < k ? begin : k;
}

// Copies panels of tile_cols columns of the right operand b (k, n) of a product, or of
// its transpose: element (p, j) is b[p * step + j], transposed b[j * step + p]. packed
// holds k times n rounded up to whole panels: for each block of depth, panel after
// panel, each row by row, zeros past n. The panels [begin, end) are written.
template <class T>
struct PackArgs {
    const T* b;
    index_t step;
    bool transposed;
    index_t k;
    index_t n;
    index_t begin;
    index_t end;
    T* packed;
};

// From what pack_panels left of w (n_in, n_out): w as it was, or (transpose_panels) the
// panels [begin, end) of w.T.
template <class T>
struct UnpackArgs {
    const T* packed;
    index_t n_in;
    index_t n_out;
    T* w;
};
template <class T>
struct TransposeArgs {
    const T* packed;
    index_t n_in;
    index_t n_out;
    index_t begin;
    index_t end;
    T* transposed;
};

// What one row does to a layer, w -= lr * outer(x, dz), and what the next finds there,
// next_z = next_x @ w + b, in one pass over w: the bits of weight_gradient and forward.
// The rows of w are whole vectors, zeros past n_out; b (n_out) or null.
template <class T>
struct StepAndForwardArgs {
    const T* x;
    const T* dz;
    T lr;
    T* w;
    index_t w_step;
    index_t n_in;
    index_t n_out;
    const T* next_x;
    const T* b;
    T* next_z;
};

// Returns the sum of the loss over rows and outputs; z becomes scale * dloss/dz if
// want_gradient, else nothing of use. z, t and derivative are contiguous (rows, cols).
// z comes in as the pre-activations where the loss starts from them (from_logits), else
// as the outputs; derivative is then activation'(z), null where it is 1. Of poisson the
// loss lacks t log(t), which is the same at every step.
//
// weights: each row's share of the loss and of its gradient is times its weight (null:
// 1). clips: the loss is as if no probability were outside [eps, 1 - eps], eps being
// the dtype's, for bce and cross_entropy with targets that are 0 or 1; the gradient
// does not know of it.
template <class T>
struct LossArgs {
    LossChoice loss;
    T* z;
    const T* derivative;
    const T* t;
    index_t rows;
    index_t cols;
    T scale;
    bool want_gradient;
    const T* weights = nullptr;
    bool clips = false;
};

// Returns the sum over n weights of l1 |w| + l2 w^2 / 2, and adds its gradient to grad
// (null: not wanted); that of |0| is taken as 0. With param, which is w, it leaves grad
// and takes a step of gradient descent instead, on the `others` parameters behind the
// weights as well.
template <class T>
struct PenaltyArgs {
    const T* w;
    T* grad;
    index_t n;
    T l1;
    T l2;
    T* param = nullptr;
    T lr = 0;
    index_t others = 0;
};

// A layer of a network over one flat parameter vector: w (n_in, n_out) row by row
// starts at params[w], b (n_out) at params[b]; b < 0: no bias.
struct RowLayer {
    index_t n_in;
    index_t n_out;
    Activation activation;
    index_t w;
    index_t b;
};

// Dropout: each output of a hidden layer is 0 with probability `probability`, else
// times 1 / (1 - probability). Which, follows from the seed, the row's number in its
// batch, the layer and the unit alone (kernels/dropout.h).
struct Drops {
    double probability = 0;  // 0: none
    std::uint64_t seed = 0;
    index_t first = 0;  // the number of the block's first row in its batch
};

// The loss of one row and its gradient with respect to all parameters (kernels/row.h).
// scratch: 2 n_out elements for each layer. drops: as DropArgs, of the hidden layers.
// The same bits as forward, drop_out, loss_gradient and backward give.
template <class T>
struct RowArgs {
    const RowLayer* layers;
    index_t count;
    LossChoice loss;
    const T* params;
    T* grads;
    const T* x;
    const T* t;
    T* scratch;
    Drops drops = {};
};

// Steps of gradient descent with one row each (kernels/descent.h): w -= lr * dw on all
// parameters, losses[s] the loss before step s. Step s takes row order[s] of x and t,
// or row s. Returns whether all losses and the new parameters are finite; otherwise the
// parameters are as they were. layers: at most kDescentLayers.
inline constexpr index_t kDescentLayers = 8;

template <class T>
struct DescentArgs {
    const RowLayer* layers;
    index_t count;
    LossChoice loss;
    T* params;
    T lr;
    MatrixView<const T> x;
    MatrixView<const T> t;
    const index_t* order;
    index_t steps;
    double* losses;
    T* scratch;  // descent_scratch() elements, at a multiple of 64 bytes
};

template <class T>
index_t descent_scratch(const RowLayer* layers, index_t count, index_t steps) {
    constexpr index_t kPad = 64 / static_cast<index_t>(sizeof(T));
    const auto padded = [](index_t n) { return (n + kPad - 1) / kPad * kPad; };
    index_t total = padded(layers[0].n_in) + 2 * steps * layers[count - 1].n_out + kPad;
    for (index_t l = 0; l < count; ++l) {
        const RowLayer& layer = layers[l];
        total +=
            (layer.n_in + 5) * padded(layer.n_out) + layer.n_out * padded(layer.n_in);
    }
    return total;
}

// The summed bce loss of one sigmoid neuron over `rows` rows, and scale times its
// gradient (kernels/neuron.h). x by columns: feature i of row r is x[i * x_stride + r];
// x_stride and the memory behind t are rounded up to kNeuronLanes, what lies past the
// rows is finite.
template <class T>
inline constexpr index_t kNeuronLanes = 64 / static_cast<index_t>(sizeof(T));
inline constexpr index_t kNeuronInputs = 64;  // n_in at most

template <class T>
struct NeuronArgs {
    const T* x;
    index_t x_stride;
    const T* t;
    index_t rows;
    index_t n_in;
    const T* w;
    const T* b;  // null: no bias
    T* dw;
    T* db;
    T scale;
};

// The summed loss of one neuron, and scale times its gradient, of an x stored by rows,
// with the targets t (rows, 1) and the weights of the rows (null: 1), all in the order
// given (null: as they lie); accumulate adds to dw and db (kernels/neuron_rows.h). The
// loss starts from the pre-activations, or the outputs are those.
template <class T>
struct NeuronRowsArgs {
    LossChoice loss;
    MatrixView<const T> x;
    MatrixView<const T> t;
    const index_t* order;  // of x.rows
    const T* w;
    const T* b;  // null: no bias
    T* dw;
    T* db;  // null: no bias
    T scale;
    bool accumulate;
    const T* weights = nullptr;
};

// Up to `steps` steps of gradient descent of a neuron on one batch: param (w, then b)
// -= lr * gradient, losses[s] the mean loss before step s. Of batch, what is given is
// x, t, scale, the sizes and whether b is null. Stops after the step whose change has a
// 2-norm
// <= tol (0: never), and before one whose loss or parameters are not finite.
template <class T>
struct NeuronDescentArgs {
    NeuronArgs<T> batch;
    T* param;
    T lr;
    double tol;
    index_t steps;
    double* losses;
};

struct NeuronDescentResult {
    index_t steps;  // made
    bool small_step;
    bool diverged;  // losses[steps] is of the step that was not made
};

// a (rows, n_out), contiguous, and its derivative times those factors; where the layer
// is linear the derivative, which is 1, comes in as anything.
template <class T>
struct DropArgs {
    Drops drops;
    index_t layer;
    index_t rows;
    index_t n_out;
    T* a;
    T* derivative;
    bool linear;
};

// Rows are summed in so many chains by kernels/columns.h: the lanes of the widest
// vector.
template <class T>
inline constexpr index_t kNarrowLanes = 64 / static_cast<index_t>(sizeof(T));

// to[j * stride + r] = from[order[r], j] for `rows` rows, and 0 for the rows up to the
// next multiple of kNarrowLanes<T>; stride is at least that. order null: the rows as
// they lie.
template <class T>
struct ColumnsArgs {
    MatrixView<const T> from;
    const index_t* order;
    index_t rows;
    T* to;
    index_t stride;
};

// The summed loss of a block of rows, and scale times its gradient with respect to all
// parameters (kernels/columns.h). x and t by columns: feature i of row r is x[i *
// stride
// + r]; stride is `rows` rounded up to kNarrowLanes, what lies past the rows is finite.
// weights (stride, finite) and clips as in LossArgs; drops as in DropArgs, of the
// hidden layers. scratch: narrow_scratch elements. The same bits on every target with a
// fused multiply-add.
template <class T>
struct NarrowArgs {
    const RowLayer* layers;
    index_t count;
    LossChoice loss;
    const T* params;
    T* grads;
    bool accumulate;  // add to grads instead of storing
    const T* x;
    const T* t;
    index_t stride;
    index_t rows;
    T scale;
    T* scratch;
    const T* weights = nullptr;
    bool clips = false;
    Drops drops = {};
};

// Vectors in the pipeline of an activation, at most.
inline constexpr index_t kNarrowStrip = 64;

template <class T>
index_t narrow_scratch(const RowLayer* layers, index_t count, index_t stride) {
    const auto padded = [](index_t features) {
        return (features + kNarrowLanes<T> - 1) / kNarrowLanes<T> * kNarrowLanes<T>;
    };
    index_t features = 0;
    index_t widest = padded(layers[0].n_in);
    for (index_t l = 0; l < count; ++l) {
        features += 2 * layers[l].n_out;  // outputs and derivatives
        const index_t n_out = padded(layers[l].n_out);
        widest = n_out > widest ? n_out : widest;
    }
    // Beside them: the pipeline, a matrix by rows, and a product of its width.
    return features * stride + 3 * kNarrowStrip * kNarrowLanes<T> +
           (stride + widest) * widest;
}

// One optimiser step over flat vectors of n parameters. Nothing is written unless every
// new parameter is finite. Returns the squared 2-norm of the parameter change if
// want_norm, else 0; NaN where nothing was written. momentum: m. adam, adamw: m and v.
template <class T>
struct UpdateArgs {
    T* param;
    const T* grad;
    T* m;
    T* v;
    index_t n;
    T lr;     // adam: lr sqrt(1 - beta2^t) / (1 - beta1^t), so that bias needs no work
    T beta1;  // momentum and nesterov: the momentum
    T beta2;
    T eps;    // adam: eps sqrt(1 - beta2^t)
    T decay;  // adamw: lr weight_decay
    bool want_norm;
    bool unchecked;  // write whatever comes, as the low-level update promises
    T factor = 1;    // of the gradients, which are clipped
};

template <class T>
struct Kernels {
#define SIGLIN_OP(result, name, parameters) result(*name) parameters;
#include "ops.inc"
#undef SIGLIN_OP
    index_t tile_rows;
    index_t tile_cols;
};

struct KernelTable {
    const char* name;
    std::size_t workspace_bytes;
    Kernels<float> f32;
    Kernels<double> f64;

    template <class T>
    const Kernels<T>& kernels() const;
};

template <>
inline const Kernels<float>& KernelTable::kernels<float>() const {
    return f32;
}
template <>
inline const Kernels<double>& KernelTable::kernels<double>() const {
    return f64;
}

#define SIGLIN_TARGET_ENTRY(target)    \
    namespace target {                 \
    const KernelTable& kernel_table(); \
    }
#include "targets.inc"
#undef SIGLIN_TARGET_ENTRY

}  // namespace siglin
