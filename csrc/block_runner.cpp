#include "block_runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "blocks.h"
#include "dispatch.h"
#include "elements.h"
#include "float_environment.h"
#include "layer.h"
#include "packed_operand.h"

namespace siglin {
namespace {

bool is_linear(Activation f) { return f == Activation::identity; }

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

// What |f(z)| and |f'(z)| do not exceed.
struct Bounds {
    double largest;
    double steepest;
};

Bounds bounds_of(Activation f) {
    switch (f) {
#define SIGLIN_ACTIVATION(name, largest, steepest) \
    case Activation::name:                         \
        return {largest, steepest};
#include "activations.inc"
    }
    return {kUnbounded, kUnbounded};
}

// NaN if either is.
double larger(double a, double b) { return a >= b ? a : (b >= a ? b : a + b); }

}  // namespace

template <class T>
BlockRunner<T>::BlockRunner(const NetworkPlan& plan, index_t rows, bool sparse)
    : plan_(plan),
      sparse_(sparse),
      packed_(plan.layers, rows, sparse),
      block_(std::min(plan.block_rows(sizeof(T)), std::max<index_t>(rows, 1))) {
    const auto count = [this](index_t k, index_t n) {
        const index_t size = packed_size<T>(k, n);
        largest_packed_ = std::max(largest_packed_, size <= kMostPacked<T> ? size : 0);
    };
    for (const RowLayer& layer : plan.layers) {
        count(layer.n_out, layer.n_in);  // of input gradients
        count(block_, layer.n_out);      // of weight gradients
    }
    if (rows <= block_ || plan.is_wide(sizeof(T))) {
        space_ = Buffer<T>(space_of_block());
        arrays_ = arrays(space_.data());
        if (rows == 1) {
            next_z_ = Buffer<T>(plan.layers[0].n_out);
        }
    }
}

template <class T>
index_t BlockRunner<T>::space_of_block() const {
    index_t per_row = (sparse_ ? 0 : plan_.n_in()) + plan_.n_out() + 1;
    for (const auto& layer : plan_.layers) {
        per_row += 3 * layer.n_out;
    }
    return block_ * per_row;
}

template <class T>
BlockArrays<T> BlockRunner<T>::arrays(T* space) const {
    BlockArrays<T> block;
    const auto take = [&](index_t cols) {
        T* p = space;
        space += block_ * cols;
        return p;
    };
    block.x = take(sparse_ ? 0 : plan_.n_in());
    block.t = take(plan_.n_out());
    for (const auto& layer : plan_.layers) {
        block.a.push_back(take(layer.n_out));
        block.d.push_back(take(layer.n_out));
        block.dz.push_back(take(layer.n_out));
    }
    block.weights = take(1);
    block.dz.back() = block.a.back();
    return block;
}

// Arrays of this thread's own, for blocks that are shared.
template <class T>
BlockArrays<T> BlockRunner<T>::thread_arrays() const {
    struct Space;
    const auto bytes = static_cast<std::size_t>(space_of_block()) * sizeof(T);
    return arrays(static_cast<T*>(thread_space<Space>(bytes)));
}

// Rows [begin, begin + rows) of the batch, gathered where they have an order of their
// own.
template <class T>
Batch<T> BlockRunner<T>::take_block(const BlockArrays<T>& to, const Batch<T>& batch,
                                    index_t begin, index_t rows) const {
    Batch<T> block = batch;
    block.order = nullptr;
    if (batch.is_sparse()) {
        block.sparse.starts += batch.order == nullptr ? begin : 0;
        block.order = batch.order == nullptr ? nullptr : batch.order + begin;
    }
    block.rows = rows;
    block.drops.first = begin;
    block.known_weight = 0;
    block.x.rows = rows;
    block.t.rows = rows;
    if (batch.order == nullptr) {
        block.x.data += begin * batch.x.stride;
        block.t.data += begin * batch.t.stride;
    }
    if (batch.weights != nullptr) {
        for (index_t i = 0; i < rows; ++i) {
            to.weights[i] = batch.weights[batch.row(begin + i)];
        }
        block.weights = to.weights;
    }
    const auto gather = [&](const MatrixView<const T>& from, T* at) {
        const auto bytes = static_cast<std::size_t>(from.cols) * sizeof(T);
        for (index_t i = 0; i < rows; ++i) {
            const index_t row = batch.order == nullptr ? i : batch.order[begin + i];
            std::memcpy(at + i * from.cols, from.data + row * from.stride, bytes);
        }
        return MatrixView<const T>{at, rows, from.cols, from.cols};
    };
    if (batch.order != nullptr && !batch.is_sparse()) {
        block.x = gather(batch.x, to.x);
    }
    if (batch.order != nullptr || batch.t.stride != batch.t.cols) {
        block.t = gather(block.t, to.t);  // the loss wants one long row
    }
    return block;
}

// Leaves every layer's output in block.a, and where training its derivative in block.d,
// except those of hidden relus, which their outputs tell.
// The last layer's output is the pre-activation where the loss starts from it. first_z:
// the first layer's pre-activations of one row, if they are known, or null.
template <class T>
void BlockRunner<T>::forward(const BlockArrays<T>& block, const T* params,
                             const Batch<T>& batch, bool training, const T* first_z,
                             const Progress* progress) const {
    const std::size_t last = plan_.layers.size() - 1;
    const index_t rows = batch.rows;
    const bool drops = batch.drops.probability > 0;
    MatrixView<const T> input = batch.x;
    for (std::size_t l = 0; l <= last; ++l) {
        const auto& layer = plan_.layers[l];
        const bool logits = l == last && training && from_logits(plan_.loss.kind);
        const Activation f = logits ? Activation::identity : layer.activation;
        T* d = training && !is_linear(f) ? block.d[l] : nullptr;
        if (l < last && f == Activation::relu && !drops) {
            d = nullptr;  // the outputs stand for them
        }
        if (l == 0 && first_z != nullptr) {
            kernel_table().kernels<T>().activate(f, first_z, block.a[l], d,
                                                 layer.n_out);
            if (progress != nullptr) {  // of the step that found them: it has none
                (*progress)(static_cast<double>(layer.n_in) *
                            static_cast<double>(layer.n_out));
            }
        } else {
            const auto run = [&] {
                if (l == 0 && batch.is_sparse()) {
                    sparse_layer_forward<T>(
                        batch.sparse_rows(), packed_.rows(l, params),
                        bias_of(layer, params), f, block.a[l], d, progress);
                    return;
                }
                layer_forward<T>(
                    input, packed_.rows(l, params), bias_of(plan_.layers[l], params), f,
                    {block.a[l], rows, layer.n_out, layer.n_out},
                    {d, rows, layer.n_out, layer.n_out}, progress, packed_.panels(l));
            };
            if (l == last) {
                run();
            } else {
                const QuickFlushSubnormals environment;  // the outputs may keep theirs
                run();
            }
        }
        if (drops && l < last) {
            drop_out(block, batch, l);
        }
        input = {block.a[l], rows, layer.n_out, layer.n_out};
    }
}

// Multiplies the outputs of a hidden layer and their derivatives by 0 or 1 / (1 -
// dropout).
template <class T>
void BlockRunner<T>::drop_out(const BlockArrays<T>& block, const Batch<T>& batch,
                              std::size_t l) const {
    kernel_table().kernels<T>().drop_out(
        {batch.drops, static_cast<index_t>(l), batch.rows, plan_.layers[l].n_out,
         block.a[l], block.d[l], is_linear(plan_.layers[l].activation)});
}

template <class T>
void BlockRunner<T>::predict_block(const BlockArrays<T>& block, const T* params,
                                   const Batch<T>& batch, MatrixView<T> out,
                                   const Progress* progress) const {
    const index_t n_out = plan_.n_out();
    forward(block, params, batch, false, nullptr, progress);
    T* a = block.a.back();
    if (plan_.loss.kind == Loss::cross_entropy) {
        kernel_table().kernels<T>().softmax(a, batch.rows, n_out);
    } else if (plan_.loss.kind == Loss::poisson) {
        kernel_table().kernels<T>().exponential(a, batch.rows * n_out);
    }
    for (index_t i = 0; i < batch.rows; ++i) {
        std::memcpy(out.data + i * out.stride, a + i * n_out,
                    static_cast<std::size_t>(n_out) * sizeof(T));
    }
}

template <class T>
double BlockRunner<T>::largest_dz(const BlockArrays<T>& block, std::size_t l,
                                  index_t rows) const {
    return kernel_table().kernels<T>().largest_magnitude(block.dz[l],
                                                         rows * plan_.layers[l].n_out);
}

// The most that a step of size 1 changes a parameter of layer l by, if no dz is larger:
// |x.T @ dz| with |x| and |dz| at their largest. NaN or infinite if one of them is.
template <class T>
double BlockRunner<T>::most_change(const Descent<T>& descent, std::size_t l,
                                   index_t rows, double dz) const {
    return descent.inputs[l] * static_cast<double>(rows) * dz;
}

// Whether neither a gradient nor what it makes of a parameter can overflow, as far as
// the last layer's dz, the inputs, and a bound on the parameters tell: from layer to
// layer |dz @ w.T| is at most n_out |dz| |w|, times the activation's steepest slope.
template <class T>
bool BlockRunner<T>::may_descend(const BlockArrays<T>& block, const Batch<T>& batch,
                                 Descent<T>& descent) const {
    const auto& kernels = kernel_table().kernels<T>();
    descent.inputs.assign(plan_.layers.size(), 1.0);  // b's
    if (batch.is_sparse()) {
        descent.inputs[0] = larger(1.0, batch.sparse_rows().largest());
    }
    for (index_t i = 0; !batch.is_sparse() && i < batch.rows; ++i) {
        descent.inputs[0] = larger(
            descent.inputs[0],
            kernels.largest_magnitude(batch.x.data + i * batch.x.stride, batch.x.cols));
    }
    for (std::size_t l = 1; l < plan_.layers.size(); ++l) {
        const auto& before = plan_.layers[l - 1];
        const double most = bounds_of(before.activation).largest;
        descent.inputs[l] = larger(
            1.0, most < kUnbounded ? most
                                   : kernels.largest_magnitude(
                                         block.a[l - 1], batch.rows * before.n_out));
    }
    const double output_dz = largest_dz(block, plan_.layers.size() - 1, batch.rows);
    const auto allows = [&](const StepBound& bound) {
        double dz = output_dz;
        double most = 0;
        for (std::size_t l = plan_.layers.size(); l-- > 0;) {
            most = larger(most, most_change(descent, l, batch.rows, dz));
            const double slope =
                l == 0 ? 1.0 : bounds_of(plan_.layers[l - 1].activation).steepest;
            dz *= static_cast<double>(plan_.layers[l].n_out) * bound.largest() * slope;
        }
        return most <= bound.limit() &&
               bound.allows(static_cast<double>(descent.lr) * most);
    };
    // The bound grows with every step, the parameters may not have.
    return allows(descent.bound(false)) || allows(descent.bound(true));
}

// dz of layer l - 1.
template <class T>
void BlockRunner<T>::input_gradient(const BlockArrays<T>& block, const T* params,
                                    std::size_t l, index_t rows,
                                    const Progress* progress, bool dropped) const {
    const auto& layer = plan_.layers[l];
    const Activation before = plan_.layers[l - 1].activation;
    const bool relu = before == Activation::relu && !dropped;
    const T* factor = relu ? block.a[l - 1] : block.d[l - 1];
    if (is_linear(before) && !dropped) {
        factor = nullptr;
    }
    layer_input_gradient<T>({block.dz[l], rows, layer.n_out, layer.n_out},
                            packed_.rows(l, params),
                            {block.dz[l - 1], rows, layer.n_in, layer.n_in}, factor,
                            relu, progress, packed_.panels(l));
}

// dw and db of layer l, added up or, with a descent, subtracted from w and b.
template <class T>
void BlockRunner<T>::parameter_gradients(const BlockArrays<T>& block,
                                         const Batch<T>& batch, std::size_t l, T* grads,
                                         bool accumulate, const Descent<T>* descent,
                                         const Progress* progress) const {
    const auto& layer = plan_.layers[l];
    const index_t rows = batch.rows;
    const MatrixView<const T> input =
        l == 0 ? batch.x
               : MatrixView<const T>{block.a[l - 1], rows, layer.n_in, layer.n_in};
    const MatrixView<const T> dz = {block.dz[l], rows, layer.n_out, layer.n_out};
    if (layer.b >= 0) {
        kernel_table().kernels<T>().column_sums(dz, grads + layer.b, accumulate);
        if (descent != nullptr) {
            gradient_descent<T>(
                {descent->params + layer.b, 1, layer.n_out, layer.n_out},
                {grads + layer.b, 1, layer.n_out, layer.n_out}, descent->lr);
        }
    }
    if (l == 0 && batch.is_sparse()) {
        T* const dw = grads + layer.w;
        if (descent == nullptr && !accumulate) {
            std::fill_n(dw, layer.n_in * layer.n_out, T(0));
        }
        sparse_layer_weight_gradient<T>(
            batch.sparse_rows(), dz, descent == nullptr ? T(1) : -descent->lr,
            {descent == nullptr ? dw : descent->params + layer.w, layer.n_in,
             layer.n_out, layer.n_out},
            progress);
        return;
    }
    if (l == 0 && descent != nullptr && descent->ahead) {
        const MatrixView<T> w = packed_.rows(l, descent->params);
        kernel_table().kernels<T>().step_and_forward(
            {input.data, dz.data, descent->lr, w.data, w.stride, layer.n_in,
             layer.n_out, descent->next_x, bias_of(plan_.layers[l], descent->params),
             next_z_.data()});
        return;
    }
    layer_weight_gradient<T>(
        input, dz, grads + layer.w, accumulate,
        descent == nullptr ? MatrixView<T>{} : packed_.rows(l, descent->params),
        descent == nullptr ? T(0) : descent->lr, progress,
        descent == nullptr ? nullptr : packed_.panels(l));
}

// Whether the first layer's weights are read once for a step and the forward product of
// the next: that many threads would share neither.
template <class T>
bool BlockRunner<T>::goes_ahead(const Descent<T>& descent) const {
    const RowLayer& layer = plan_.layers[0];
    const double work =
        static_cast<double>(layer.n_in) * static_cast<double>(layer.n_out);
    return descent.next_x != nullptr && packed_.has_rows(0) && !shares_rows(work);
}

// The whole step, backwards: a layer's weights are read for the layer below and
// replaced while they are in cache.
template <class T>
void BlockRunner<T>::descend(const BlockArrays<T>& block, const Batch<T>& batch,
                             T* grads, Descent<T>& descent) const {
    reserve_products<T>(largest_packed_);  // a step happens whole or not at all
    descent.ahead = goes_ahead(descent);   // once: the number of threads may change
    double most = 0;
    for (std::size_t l = plan_.layers.size(); l-- > 0;) {
        most = larger(most, most_change(descent, l, batch.rows,
                                        largest_dz(block, l, batch.rows)));
        if (l > 0) {
            input_gradient(block, descent.params, l, batch.rows, nullptr);
        }
        parameter_gradients(block, batch, l, grads, false, &descent, nullptr);
    }
    descent.bound(false).add(static_cast<double>(descent.lr) * most);
    descent.done = true;
}

// The summed loss of the rows; with grads, scale times its gradient.
template <class T>
double BlockRunner<T>::block_loss(const BlockArrays<T>& block, const T* params,
                                  T* grads, const Batch<T>& batch, T scale,
                                  bool accumulate, const T* first_z,
                                  const Progress* progress, Descent<T>* descent) const {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t rows = batch.rows;
    const bool drops = batch.drops.probability > 0;
    forward(block, params, batch, true, first_z, progress);
    const T* derivative =
        is_linear(plan_.layers.back().activation) ? nullptr : block.d.back();
    const double loss = kernels.loss_gradient(
        {plan_.loss, block.a.back(), derivative, batch.t.data, rows, plan_.n_out(),
         scale, grads != nullptr, batch.weights, batch.clips});
    if (grads == nullptr) {
        return loss;
    }
    if (descent != nullptr && std::isfinite(loss) &&
        may_descend(block, batch, *descent)) {
        descend(block, batch, grads, *descent);
        return loss;
    }
    for (std::size_t l = plan_.layers.size(); l-- > 0;) {
        if (l > 0) {
            input_gradient(block, params, l, rows, progress, drops);
        }
        parameter_gradients(block, batch, l, grads, accumulate, nullptr, progress);
    }
    return loss;
}

template <class T>
double BlockRunner<T>::shared_loss(const T* params, T* grads, const Batch<T>& batch,
                                   index_t begin, index_t rows, T scale,
                                   bool accumulate) const {
    const BlockArrays<T> arrays = thread_arrays();
    return block_loss(arrays, params, grads, take_block(arrays, batch, begin, rows),
                      scale, accumulate, nullptr, nullptr, nullptr);
}

template <class T>
double BlockRunner<T>::loss(const T* params, T* grads, const Batch<T>& batch, T scale,
                            const Progress& progress, Descent<T>* descent) {
    if (batch.rows > block_) {
        descent = nullptr;
    }
    const T* first_z = nullptr;
    if (batch.rows == 1 && next_x_ != nullptr && next_x_ == batch.first_row()) {
        first_z = next_z_.data();
    }
    next_x_ = nullptr;
    if (descent != nullptr) {
        packed_.load(params);
    }
    double total = 0;
    for (index_t begin = 0; begin < batch.rows; begin += block_) {
        const index_t rows = std::min(block_, batch.rows - begin);
        total +=
            block_loss(arrays_, params, grads, take_block(arrays_, batch, begin, rows),
                       scale, begin > 0, first_z, &progress, descent);
    }
    if (descent != nullptr && descent->ahead) {
        next_x_ = descent->next_x;
    }
    return total;
}

template <class T>
void BlockRunner<T>::predict(const T* params, const Batch<T>& block, MatrixView<T> out,
                             const Progress* progress) const {
    if (space_.data() == nullptr) {
        predict_block(thread_arrays(), params, block, out, nullptr);
    } else {
        predict_block(arrays_, params, block, out, progress);
    }
}

template class BlockRunner<float>;
template class BlockRunner<double>;

}  // namespace siglin
