#include "network.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "dispatch.h"
#include "layer.h"
#include "parallel.h"
#include "random.h"

namespace siglin {
namespace {

bool is_linear(Activation f) { return f == Activation::identity; }

index_t round_up(index_t n, index_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

// Whether the loss starts from the last layer's pre-activations.
bool from_logits(Loss loss) { return loss != Loss::squared_error; }

// Whether |f(z)| <= 1.
bool is_bounded(Activation f) {
    return f == Activation::sigmoid || f == Activation::tanh || f == Activation::step;
}

// NaN if either is.
double larger(double a, double b) { return a >= b ? a : (b >= a ? b : a + b); }

}  // namespace

NetworkPlan::NetworkPlan(const std::vector<index_t>& sizes,
                         const std::vector<Activation>& activations,
                         const std::vector<bool>& biases, Loss loss_)
    : loss(loss_) {
    for (std::size_t l = 0; l < activations.size(); ++l) {
        const index_t n_in = sizes[l];
        const index_t n_out = sizes[l + 1];
        const index_t w = n_params;
        const index_t b = w + n_in * n_out;
        n_params = b + (biases[l] ? n_out : 0);
        layers.push_back({n_in, n_out, activations[l], w, biases[l] ? b : -1});
    }
}

bool NetworkPlan::is_wide(index_t item_size) const {
    // Weights that are themselves larger than half of L2 are better read by all threads
    // at once than by each for its own rows.
    constexpr index_t kWideBytes = 512 * 1024;
    return n_params * item_size > kWideBytes;
}

index_t NetworkPlan::block_rows(index_t item_size) const {
    // A block's activations and derivatives should stay in a 512 kB L2 beside the
    // packed weights; a multiple of 96 keeps the tiles of every target whole, and fewer
    // rows than kDepth would cut the sums of weight gradients short (784-128-10,
    // batches of 128: two blocks took 7 % longer than one). Wide weights are packed
    // once a block, which 1024 rows repay.
    constexpr index_t kBudget = 256 * 1024;
    constexpr index_t kWideRows = 1056;
    constexpr index_t kUnit = 96;
    constexpr index_t kMostRows = 4128;
    if (is_wide(item_size)) {
        return kWideRows;
    }
    index_t per_row = n_in();
    for (const RowLayer& layer : layers) {
        per_row += 3 * layer.n_out;
    }
    const index_t rows = kBudget / (per_row * item_size) / kUnit * kUnit;
    return std::clamp(rows, kDepth, kMostRows);
}

index_t NetworkPlan::slots(index_t blocks, index_t item_size) const {
    // Each slot is a vector of gradients that has to be cleared and added.
    constexpr index_t kSmallBytes = 32 * 1024;
    constexpr index_t kSmallSlots = 32;
    constexpr index_t kSlots = 8;
    return std::min(blocks, n_params * item_size <= kSmallBytes ? kSmallSlots : kSlots);
}

double NetworkPlan::multiply_adds_per_row() const {
    double total = 0;
    for (const RowLayer& layer : layers) {
        total +=
            3.0 * static_cast<double>(layer.n_in) * static_cast<double>(layer.n_out) +
            16.0 * static_cast<double>(layer.n_out);
    }
    return total;
}

bool NetworkPlan::is_small() const {
    // Up to here a row's weights come from L1 and its input gradient is a short loop;
    // beyond, the tiles and packing of gemm.h repay their set-up.
    constexpr index_t kMostParams = 4096;
    return n_params <= kMostParams;
}

bool NetworkPlan::is_neuron() const {
    return layers.size() == 1 && n_out() == 1 && loss == Loss::bce;
}

bool NetworkPlan::is_neuron_by_columns(index_t rows) const {
    // While that copy stays in L2; beyond, reading x as it lies is faster.
    constexpr index_t kMostElements = 32 * 1024;
    return is_neuron() && n_in() <= kNeuronInputs && rows <= kMostElements / n_in();
}

bool NetworkPlan::is_neuron_by_rows(index_t item_size) const {
    return is_neuron() && !is_wide(item_size);
}

index_t NetworkPlan::neuron_range() const {
    // Some 50 us.
    constexpr index_t kElements = 256 * 1024;
    constexpr index_t kLeastRows = 96;
    constexpr index_t kMostRows = 8192;
    return std::clamp(kElements / n_in() / 32 * 32, kLeastRows, kMostRows);
}

bool NetworkPlan::is_narrow(index_t rows) const {
    // Measured with AVX2 and AVX-512 from 1-8-1 to 128-128-128, 16 to 1024 rows: 1-8-1
    // is 1.4 to 2.8 times as fast, 32-64-10 1.0 to 1.3, 64-64-64 even, 128-128-128
    // takes 1.2 times as long, 16-16-16 also does with 16 rows of float32.
    constexpr index_t kMostWide = 128;
    constexpr index_t kMostNarrow = 64;
    constexpr index_t kFewRows = 32;  // less fill a vector or two
    constexpr index_t kMostNarrowOfFewRows = 8;
    constexpr index_t kLeastRows = 16;
    const index_t most = rows < kFewRows ? kMostNarrowOfFewRows : kMostNarrow;
    return rows >= kLeastRows && (loss == Loss::bce || loss == Loss::squared_error) &&
           std::all_of(layers.begin(), layers.end(), [&](const RowLayer& layer) {
               return std::max(layer.n_in, layer.n_out) <= kMostWide &&
                      std::min(layer.n_in, layer.n_out) <= most;
           });
}

index_t NetworkPlan::narrow_rows(index_t item_size) const {
    // Half of a 512 kB L2: the sums over the rows of a block begin and end but once
    // (8-128-64-1, batches of 128 in one block instead of three: 9 % less time). An odd
    // number of cache lines from feature to feature, so that a column of features falls
    // on many sets of the cache.
    constexpr index_t kBudget = 256 * 1024;
    constexpr index_t kMostRows = 1008;
    constexpr index_t kLineBytes = 64;
    index_t per_row = n_in() + n_out();
    for (const RowLayer& layer : layers) {
        per_row += 2 * layer.n_out;
    }
    const index_t lanes = kLineBytes / item_size;
    const index_t groups = kBudget / (per_row * item_size) / lanes;
    return (std::clamp<index_t>(groups, 1, kMostRows / lanes) / 2 * 2 + 1) * lanes;
}

template <class T>
double Batch<T>::weight() const {
    if (weights == nullptr) {
        return static_cast<double>(rows);
    }
    double total = 0;
    for (index_t i = 0; i < rows; ++i) {
        total += static_cast<double>(weights[order == nullptr ? i : order[i]]);
    }
    return total;
}

template struct Batch<float>;
template struct Batch<double>;

template <class T>
NetworkRunner<T>::NetworkRunner(const NetworkPlan& plan, index_t rows)
    : plan_(plan),
      small_(plan.is_small()),
      packed_(plan.layers, rows),
      block_(std::min(plan.block_rows(sizeof(T)), std::max<index_t>(rows, 1))),
      multiply_adds_per_row_(plan.multiply_adds_per_row()) {
    if (rows <= block_ || plan.is_wide(sizeof(T))) {
        space_ = Buffer<T>(space_of_block());
        arrays_ = arrays(space_.data());
        if (rows == 1) {
            next_z_ = Buffer<T>(plan.layers[0].n_out);
        }
    }
    // Each path has blocks of its own, and a loss without its gradient takes the plain
    // one: slots for the smallest.
    bool shares = space_.data() == nullptr;
    index_t shared_block = block_;
    if (plan.is_narrow(rows)) {
        narrow_block_ = plan.narrow_rows(sizeof(T));
        shared_block = std::min(shared_block, narrow_block_);
        shares = true;
    }
    if (plan.is_neuron_by_rows(sizeof(T))) {
        shared_block = std::min(shared_block, plan.neuron_range());
        shares = true;
    }
    const index_t blocks = (rows + shared_block - 1) / shared_block;
    if (blocks > 1 && shares) {
        const index_t slots = plan.slots(blocks, sizeof(T));
        slot_grads_ = Buffer<T>(slots * plan.n_params);
        slot_losses_.resize(static_cast<std::size_t>(slots));
    }
}

template <class T>
index_t NetworkRunner<T>::space_of_block() const {
    index_t per_row = plan_.n_in() + plan_.n_out() + 1;
    for (const auto& layer : plan_.layers) {
        per_row += 3 * layer.n_out;
    }
    return block_ * per_row;
}

template <class T>
BlockArrays<T> NetworkRunner<T>::arrays(T* space) const {
    BlockArrays<T> block;
    const auto take = [&](index_t cols) {
        T* p = space;
        space += block_ * cols;
        return p;
    };
    block.x = take(plan_.n_in());
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
BlockArrays<T> NetworkRunner<T>::thread_arrays() const {
    struct Space;
    const auto bytes = static_cast<std::size_t>(space_of_block()) * sizeof(T);
    return arrays(static_cast<T*>(thread_space<Space>(bytes)));
}

template <class T>
const T* NetworkRunner<T>::first_row(const Batch<T>& batch) {
    const index_t row = batch.order == nullptr ? 0 : batch.order[0];
    return batch.x.data + row * batch.x.stride;
}

template <class T>
const T* NetworkRunner<T>::bias(const T* params, std::size_t l) const {
    return plan_.layers[l].b >= 0 ? params + plan_.layers[l].b : nullptr;
}

// Rows [begin, begin + rows) of the batch, gathered where they have an order of their
// own.
template <class T>
Batch<T> NetworkRunner<T>::take_block(const BlockArrays<T>& to, const Batch<T>& batch,
                                      index_t begin, index_t rows) const {
    Batch<T> block = batch;
    block.order = nullptr;
    block.rows = rows;
    block.first = begin;
    block.x.rows = rows;
    block.t.rows = rows;
    if (batch.order == nullptr) {
        block.x.data += begin * batch.x.stride;
        block.t.data += begin * batch.t.stride;
    }
    if (batch.weights != nullptr) {
        for (index_t i = 0; i < rows; ++i) {
            const index_t row = begin + i;
            to.weights[i] =
                batch.weights[batch.order == nullptr ? row : batch.order[row]];
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
    if (batch.order != nullptr) {
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
void NetworkRunner<T>::forward(const BlockArrays<T>& block, const T* params,
                               MatrixView<const T> x, bool training, const T* first_z,
                               const Progress* progress,
                               const Batch<T>* dropping) const {
    const std::size_t last = plan_.layers.size() - 1;
    MatrixView<const T> input = x;
    for (std::size_t l = 0; l <= last; ++l) {
        const auto& layer = plan_.layers[l];
        const bool logits = l == last && training && from_logits(plan_.loss);
        const Activation f = logits ? Activation::identity : layer.activation;
        T* d = training && !is_linear(f) ? block.d[l] : nullptr;
        if (l < last && f == Activation::relu && dropping == nullptr) {
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
            layer_forward<T>(input, packed_.rows(l, params), bias(params, l), f,
                             {block.a[l], x.rows, layer.n_out, layer.n_out},
                             {d, x.rows, layer.n_out, layer.n_out}, progress,
                             packed_.panels(l));
        }
        if (dropping != nullptr && l < last) {
            drop_out(block, *dropping, l);
        }
        input = {block.a[l], x.rows, layer.n_out, layer.n_out};
    }
}

// Multiplies the outputs of a hidden layer and their derivatives by 0 or 1 / (1 -
// dropout).
template <class T>
void NetworkRunner<T>::drop_out(const BlockArrays<T>& block, const Batch<T>& batch,
                                std::size_t l) const {
    const index_t n_out = plan_.layers[l].n_out;
    const bool linear = is_linear(plan_.layers[l].activation);
    const auto kept = static_cast<T>(1 / (1 - batch.dropout));
    // A word of SplitMix64 serves two units, its lower half the first.
    const auto threshold = static_cast<std::uint64_t>(batch.dropout * 0x1p32);
    for (index_t i = 0; i < batch.rows; ++i) {
        const auto row = static_cast<std::uint64_t>(batch.first + i);
        std::uint64_t state = batch.seed ^ (row * 0xd1342543de82ef95U) ^
                              ((l + 1) * std::uint64_t{0xaf251af3b0f025b5U});
        T* const a = block.a[l] + i * n_out;
        T* const d = block.d[l] + i * n_out;
        std::uint64_t word = 0;
        for (index_t j = 0; j < n_out; ++j) {
            word = j % 2 == 0 ? split_mix(state) : word >> 32;
            const T factor = (word & 0xffffffffU) < threshold ? T(0) : kept;
            a[j] *= factor;
            d[j] = linear ? factor : d[j] * factor;
        }
    }
}

template <class T>
void NetworkRunner<T>::predict_block(const BlockArrays<T>& block, const T* params,
                                     MatrixView<const T> x, MatrixView<T> out,
                                     const Progress* progress) const {
    const index_t n_out = plan_.n_out();
    forward(block, params, x, false, nullptr, progress);
    T* a = block.a.back();
    if (plan_.loss == Loss::cross_entropy) {
        kernel_table().kernels<T>().softmax(a, x.rows, n_out);
    } else if (plan_.loss == Loss::poisson) {
        kernel_table().kernels<T>().exponential(a, x.rows * n_out);
    }
    for (index_t i = 0; i < x.rows; ++i) {
        std::memcpy(out.data + i * out.stride, a + i * n_out,
                    static_cast<std::size_t>(n_out) * sizeof(T));
    }
}

// parallel_for over all blocks, in waves of some milliseconds with a call of progress
// after each.
template <class T>
template <class Run>
void NetworkRunner<T>::for_waves(index_t count, index_t rows_each,
                                 const Progress& progress, const Run& run) const {
    constexpr double kWaveWork = 5e8;  // 10 ms of one core
    const double each = static_cast<double>(rows_each) * multiply_adds_per_row_;
    const auto wave = static_cast<index_t>(
        std::clamp(num_threads() * kWaveWork / each, 1.0, static_cast<double>(count)));
    for (index_t begin = 0; begin < count; begin += wave) {
        const index_t n = std::min(wave, count - begin);
        const double work = each * static_cast<double>(n);
        parallel_for(n, work, [&](index_t i) { run(begin + i); });
        progress(work);
    }
}

template <class T>
void NetworkRunner<T>::predict(const T* params, MatrixView<const T> x,
                               MatrixView<T> out, const Progress& progress) {
    const index_t blocks = (x.rows + block_ - 1) / block_;
    const auto run = [&](const BlockArrays<T>& arrays, index_t i,
                         const Progress* between) {
        const index_t begin = i * block_;
        const index_t rows = std::min(block_, x.rows - begin);
        predict_block(
            arrays, params, {x.data + begin * x.stride, rows, x.cols, x.stride},
            {out.data + begin * out.stride, rows, out.cols, out.stride}, between);
    };
    if (space_.data() != nullptr) {
        for (index_t i = 0; i < blocks; ++i) {
            run(arrays_, i, &progress);
        }
        return;
    }
    for_waves(blocks, block_, progress,
              [&](index_t i) { run(thread_arrays(), i, nullptr); });
}

template <class T>
double NetworkRunner<T>::largest_dz(const BlockArrays<T>& block, std::size_t l,
                                    index_t rows) const {
    return kernel_table().kernels<T>().largest_magnitude(block.dz[l],
                                                         rows * plan_.layers[l].n_out);
}

// The most that a step of size 1 changes a parameter of layer l by, if no dz is larger:
// |x.T @ dz| with |x| and |dz| at their largest. NaN or infinite if one of them is.
template <class T>
double NetworkRunner<T>::most_change(const Descent<T>& descent, std::size_t l,
                                     index_t rows, double dz) const {
    return descent.inputs[l] * static_cast<double>(rows) * dz;
}

// Whether neither a gradient nor what it makes of a parameter can overflow, as far as
// the last layer's dz, the inputs, and a bound on the parameters tell: from layer to
// layer |dz @ w.T| is at most n_out |dz| |w|, and no derivative is larger than 1.
template <class T>
bool NetworkRunner<T>::may_descend(const BlockArrays<T>& block, const Batch<T>& batch,
                                   Descent<T>& descent) const {
    const auto& kernels = kernel_table().kernels<T>();
    descent.inputs.assign(plan_.layers.size(), 1.0);  // b's
    for (index_t i = 0; i < batch.rows; ++i) {
        descent.inputs[0] = larger(
            descent.inputs[0],
            kernels.largest_magnitude(batch.x.data + i * batch.x.stride, batch.x.cols));
    }
    for (std::size_t l = 1; l < plan_.layers.size(); ++l) {
        const auto& before = plan_.layers[l - 1];
        if (!is_bounded(before.activation)) {
            descent.inputs[l] = larger(
                1.0,
                kernels.largest_magnitude(block.a[l - 1], batch.rows * before.n_out));
        }
    }
    const StepBound& bound = descent.bound();
    double dz = largest_dz(block, plan_.layers.size() - 1, batch.rows);
    double most = 0;
    for (std::size_t l = plan_.layers.size(); l-- > 0;) {
        most = larger(most, most_change(descent, l, batch.rows, dz));
        dz *= static_cast<double>(plan_.layers[l].n_out) * bound.largest();
    }
    return most <= bound.limit() &&
           bound.allows(static_cast<double>(descent.lr) * most);
}

// dz of layer l - 1.
template <class T>
void NetworkRunner<T>::input_gradient(const BlockArrays<T>& block, const T* params,
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
void NetworkRunner<T>::parameter_gradients(const BlockArrays<T>& block,
                                           const Batch<T>& batch, std::size_t l,
                                           T* grads, bool accumulate,
                                           const Descent<T>* descent,
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
    if (l == 0 && descent != nullptr && descent->ahead) {
        const MatrixView<T> w = packed_.rows(l, descent->params);
        kernel_table().kernels<T>().step_and_forward(
            {input.data, dz.data, descent->lr, w.data, w.stride, layer.n_in,
             layer.n_out, descent->next_x, bias(descent->params, l), next_z_.data()});
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
bool NetworkRunner<T>::goes_ahead(const Descent<T>& descent) const {
    const RowLayer& layer = plan_.layers[0];
    const double work =
        static_cast<double>(layer.n_in) * static_cast<double>(layer.n_out);
    return descent.next_x != nullptr && packed_.has_rows(0) && !shares_rows(work);
}

// The whole step, backwards: a layer's weights are read for the layer below and
// replaced while they are in cache.
template <class T>
void NetworkRunner<T>::descend(const BlockArrays<T>& block, const Batch<T>& batch,
                               T* grads, Descent<T>& descent) const {
    descent.ahead = goes_ahead(descent);  // once: the number of threads may change
    double most = 0;
    for (std::size_t l = plan_.layers.size(); l-- > 0;) {
        most = larger(most, most_change(descent, l, batch.rows,
                                        largest_dz(block, l, batch.rows)));
        if (l > 0) {
            input_gradient(block, descent.params, l, batch.rows, nullptr);
        }
        parameter_gradients(block, batch, l, grads, false, &descent, nullptr);
    }
    descent.bound().add(static_cast<double>(descent.lr) * most);
    descent.done = true;
}

// The summed loss of the rows; with grads, scale times its gradient.
template <class T>
double NetworkRunner<T>::block_loss(const BlockArrays<T>& block, const T* params,
                                    T* grads, const Batch<T>& batch, T scale,
                                    bool accumulate, const T* first_z,
                                    const Progress* progress,
                                    Descent<T>* descent) const {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t rows = batch.rows;
    const bool drops = batch.dropout > 0;
    forward(block, params, batch.x, true, first_z, progress, drops ? &batch : nullptr);
    const T* derivative =
        is_linear(plan_.layers.back().activation) ? nullptr : block.d.back();
    const LossArgs<T> args = {plan_.loss, block.a.back(), derivative, batch.t.data,
                              rows,       plan_.n_out(),  scale,      grads != nullptr};
    const double loss =
        batch.is_plain()
            ? kernels.loss_gradient(args)
            : kernels.weighted_loss_gradient({args, batch.weights, batch.clips});
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
index_t NetworkRunner<T>::neuron_stride(index_t rows) {
    return (rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
}

template <class T>
void NetworkRunner<T>::store_by_columns(const Batch<T>& batch) {
    const index_t stride = neuron_stride(batch.rows);
    if (columns_.data() == nullptr) {
        const index_t count = stride * (plan_.n_in() + 1);
        columns_ = Buffer<T>(count);
        std::fill_n(columns_.data(), count, T(0));
    }
    T* t = columns_.data() + stride * plan_.n_in();
    for (index_t r = 0; r < batch.rows; ++r) {
        const index_t row = batch.order == nullptr ? r : batch.order[r];
        const T* x = batch.x.data + row * batch.x.stride;
        for (index_t i = 0; i < plan_.n_in(); ++i) {
            columns_.data()[i * stride + r] = x[i];
        }
        t[r] = batch.t.data[row * batch.t.stride];
    }
}

template <class T>
void NetworkRunner<T>::prepare(const Batch<T>& batch) {
    if (plan_.is_neuron_by_columns(batch.rows)) {
        store_by_columns(batch);
        prepared_ = true;
    } else if (!plan_.is_neuron_by_rows(sizeof(T)) && narrow_is_prepared(batch.rows)) {
        const index_t features = plan_.n_in() + plan_.n_out();
        columns_ = Buffer<T>(round_up(batch.rows, kNarrowLanes<T>) * features);
        for (index_t begin = 0; begin < batch.rows; begin += narrow_block_) {
            store_narrow_block(batch, begin, columns_.data() + begin * features);
        }
        prepared_ = true;
    }
}

// Whether the columns of a batch that never changes are kept for all steps of a fit.
template <class T>
bool NetworkRunner<T>::narrow_is_prepared(index_t rows) const {
    constexpr index_t kMostBytes = 1024 * 1024;
    const index_t row_bytes =
        (plan_.n_in() + plan_.n_out()) * static_cast<index_t>(sizeof(T));
    return plan_.is_narrow(rows) && rows <= kMostBytes / row_bytes;
}

// x and then t of the block that begins at a row, by columns.
template <class T>
void NetworkRunner<T>::store_narrow_block(const Batch<T>& batch, index_t begin,
                                          T* to) const {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t rows = std::min(narrow_block_, batch.rows - begin);
    const index_t stride = round_up(rows, kNarrowLanes<T>);
    for (MatrixView<const T> from : {batch.x, batch.t}) {
        if (batch.order == nullptr) {
            from.data += begin * from.stride;
        }
        const index_t* order = batch.order == nullptr ? nullptr : batch.order + begin;
        kernels.to_columns({from, order, rows, to, stride});
        to += from.cols * stride;
    }
}

template <class T>
double NetworkRunner<T>::narrow_block_loss(const T* params, T* grads,
                                           const Batch<T>& batch, index_t begin,
                                           bool accumulate) const {
    const index_t features = plan_.n_in() + plan_.n_out();
    const auto layers = static_cast<index_t>(plan_.layers.size());
    const index_t rows = std::min(narrow_block_, batch.rows - begin);
    const index_t stride = round_up(rows, kNarrowLanes<T>);
    const index_t scratch_size = narrow_scratch<T>(plan_.layers.data(), layers, stride);
    struct Space;
    T* scratch = static_cast<T*>(thread_space<Space>(
        static_cast<std::size_t>(scratch_size + stride * features) * sizeof(T)));
    const T* x = columns_.data() + begin * features;
    if (!prepared_) {
        T* columns = scratch + scratch_size;
        store_narrow_block(batch, begin, columns);
        x = columns;
    }
    return kernel_table().kernels<T>().narrow_loss_gradient(
        {plan_.layers.data(), layers, plan_.loss, params, grads, accumulate, x,
         x + stride * plan_.n_in(), stride, rows, T(1) / static_cast<T>(batch.rows),
         scratch});
}

template <class T>
NeuronArgs<T> NetworkRunner<T>::neuron_args(const T* params, T* grads,
                                            index_t rows) const {
    const RowLayer& layer = plan_.layers[0];
    const index_t stride = neuron_stride(rows);
    const T* x = columns_.data();
    T* db = layer.b >= 0 && grads != nullptr ? grads + layer.b : nullptr;
    return {x,
            stride,
            x + stride * layer.n_in,
            rows,
            layer.n_in,
            params + layer.w,
            bias(params, 0),
            grads,
            db,
            T(1) / static_cast<T>(rows)};
}

template <class T>
double NetworkRunner<T>::prepared_neuron_loss(const T* params, T* grads,
                                              index_t rows) const {
    return kernel_table().kernels<T>().neuron_loss_gradient(
        neuron_args(params, grads, rows));
}

template <class T>
double NetworkRunner<T>::neuron_range_loss(const T* params, T* grads,
                                           const Batch<T>& batch, index_t begin,
                                           index_t rows, bool accumulate) const {
    const RowLayer& layer = plan_.layers[0];
    NeuronRowsArgs<T> args = {batch.x,
                              batch.t,
                              nullptr,
                              params + layer.w,
                              bias(params, 0),
                              grads + layer.w,
                              layer.b >= 0 ? grads + layer.b : nullptr,
                              T(1) / static_cast<T>(batch.rows),
                              accumulate};
    args.x.rows = rows;
    if (batch.order != nullptr) {
        args.order = batch.order + begin;
    } else {
        args.x.data += begin * batch.x.stride;
        args.t.data += begin * batch.t.stride;
    }
    return kernel_table().kernels<T>().neuron_rows_gradient(args);
}

template <class T>
NeuronDescentResult NetworkRunner<T>::descend_neuron(T* params, index_t rows, T lr,
                                                     double tol, index_t steps,
                                                     double* losses) const {
    return kernel_table().kernels<T>().neuron_descent(
        {neuron_args(params, nullptr, rows), params, lr, tol, steps, losses});
}

template <class T>
typename NetworkRunner<T>::Path NetworkRunner<T>::path_of(const T* grads,
                                                          const Batch<T>& batch) const {
    if (grads == nullptr || !batch.is_plain()) {
        return Path::blocks;
    }
    if (batch.rows == 1 && small_) {
        return Path::row;
    }
    if (prepared_ && plan_.is_neuron_by_columns(batch.rows)) {
        return Path::neuron_by_columns;
    }
    if (plan_.is_neuron_by_rows(sizeof(T))) {
        return Path::neuron_by_rows;
    }
    return plan_.is_narrow(batch.rows) ? Path::narrow : Path::blocks;
}

template <class T>
double NetworkRunner<T>::loss(const T* params, T* grads, const Batch<T>& batch,
                              const Progress& progress, Descent<T>* descent) {
    const Path path = path_of(grads, batch);
    if (path != Path::blocks && descent != nullptr) {
        settle(descent->params);  // old after a batch of so many rows that it descends
    }
    const auto rows = static_cast<double>(batch.rows);
    switch (path) {
        case Path::row:
            progress(multiply_adds_per_row_);
            return row_loss(params, grads, batch);
        case Path::neuron_by_columns:
            progress(rows * multiply_adds_per_row_);
            return prepared_neuron_loss(params, grads, batch.rows) / rows;
        case Path::neuron_by_rows:
            return sum_of_blocks(
                       batch.rows, plan_.neuron_range(), grads, progress,
                       [&](index_t begin, index_t count, T* sums, bool accumulate) {
                           return neuron_range_loss(params, sums, batch, begin, count,
                                                    accumulate);
                       }) /
                   rows;
        case Path::narrow:
            return sum_of_blocks(batch.rows, narrow_block_, grads, progress,
                                 [&](index_t begin, index_t, T* sums, bool accumulate) {
                                     return narrow_block_loss(params, sums, batch,
                                                              begin, accumulate);
                                 }) /
                   rows;
        case Path::blocks:
            break;
    }
    return blocks_loss(params, grads, batch, progress, descent);
}

template <class T>
double NetworkRunner<T>::row_loss(const T* params, T* grads,
                                  const Batch<T>& batch) const {
    const index_t row = batch.order == nullptr ? 0 : batch.order[0];
    T* scratch = space_.data() == nullptr ? thread_arrays().a[0] : arrays_.a[0];
    return kernel_table().kernels<T>().row_loss_gradient(
        {plan_.layers.data(), static_cast<index_t>(plan_.layers.size()), plan_.loss,
         params, grads, first_row(batch), batch.t.data + row * batch.t.stride,
         scratch});
}

template <class T>
double NetworkRunner<T>::blocks_loss(const T* params, T* grads, const Batch<T>& batch,
                                     const Progress& progress, Descent<T>* descent) {
    const double weight = batch.weight();
    const T scale = weight == 0 ? T(0) : T(1) / static_cast<T>(weight);
    double total = 0;
    if (space_.data() == nullptr) {
        total = sum_of_blocks(
            batch.rows, block_, grads, progress,
            [&](index_t begin, index_t rows, T* sums, bool accumulate) {
                const BlockArrays<T> arrays = thread_arrays();
                return block_loss(arrays, params, sums,
                                  take_block(arrays, batch, begin, rows), scale,
                                  accumulate, nullptr, nullptr, nullptr);
            });
    } else {
        if (batch.rows > block_) {
            descent = nullptr;
        }
        const T* first_z = nullptr;
        if (batch.rows == 1 && next_x_ != nullptr && next_x_ == first_row(batch)) {
            first_z = next_z_.data();
        }
        next_x_ = nullptr;
        if (descent != nullptr) {
            packed_.load(params);
        }
        for (index_t begin = 0; begin < batch.rows; begin += block_) {
            const index_t rows = std::min(block_, batch.rows - begin);
            total += block_loss(arrays_, params, grads,
                                take_block(arrays_, batch, begin, rows), scale,
                                begin > 0, first_z, &progress, descent);
        }
        if (descent != nullptr && descent->ahead) {
            next_x_ = descent->next_x;
        }
    }
    return weight == 0 ? 0 : total / weight;
}

// The sum of block_loss(begin, rows, sums, accumulate) over all blocks, shared among
// the threads; grads (or null) gets the sum of their gradients. Slot s sums the blocks
// from s * blocks / slots on, in order; then the slots are added in order.
template <class T>
template <class BlockLoss>
double NetworkRunner<T>::sum_of_blocks(index_t rows, index_t block, T* grads,
                                       const Progress& progress,
                                       const BlockLoss& block_loss) {
    const index_t blocks = (rows + block - 1) / block;
    if (blocks == 1) {
        progress(static_cast<double>(rows) * multiply_adds_per_row_);
        return block_loss(0, rows, grads, false);
    }
    const index_t slots = plan_.slots(blocks, sizeof(T));
    std::fill_n(slot_losses_.begin(), slots, 0.0);
    // Some blocks of every slot, then the next: all threads have work, and progress
    // comes every few milliseconds.
    constexpr double kWork = 5e8;  // 10 ms of one core
    const double each = static_cast<double>(block) * multiply_adds_per_row_;
    const double together = kWork * num_threads() / (each * static_cast<double>(slots));
    const index_t longest = (blocks + slots - 1) / slots;
    const auto some =
        static_cast<index_t>(std::clamp(together, 1.0, static_cast<double>(longest)));
    for (index_t done = 0; done < longest; done += some) {
        const double work = each * static_cast<double>(slots * some);
        parallel_for(slots, work, [&](index_t slot) {
            T* sums =
                grads == nullptr ? grads : slot_grads_.data() + slot * plan_.n_params;
            const index_t first = slot * blocks / slots;
            const index_t last = (slot + 1) * blocks / slots;
            for (index_t i = first + done; i < std::min(last, first + done + some);
                 ++i) {
                const index_t begin = i * block;
                slot_losses_[static_cast<std::size_t>(slot)] +=
                    block_loss(begin, std::min(block, rows - begin), sums, i > first);
            }
        });
        progress(work);
    }
    double total = 0;
    for (index_t slot = 0; slot < slots; ++slot) {
        total += slot_losses_[static_cast<std::size_t>(slot)];
        if (grads == nullptr) {
            continue;
        }
        const T* sums = slot_grads_.data() + slot * plan_.n_params;
        if (slot == 0) {
            std::copy_n(sums, plan_.n_params, grads);
        } else {
            kernel_table().kernels<T>().add_to(sums, grads, plan_.n_params);
        }
    }
    return total;
}

template class NetworkRunner<float>;
template class NetworkRunner<double>;

}  // namespace siglin
