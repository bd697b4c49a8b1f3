#include "network.h"

#include <algorithm>
#include <cstring>

#include "dispatch.h"

namespace siglin {
namespace {

bool is_linear(Activation f) { return f == Activation::identity; }

// Whether the loss starts from the last layer's pre-activations.
bool from_logits(Loss loss) { return loss != Loss::squared_error; }

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

index_t NetworkPlan::block_rows(index_t item_size) const {
    // A block's activations and derivatives should stay in a 512 kB L2 beside the
    // packed weights; a multiple of 96 keeps the tiles of every target whole. Weights
    // that are themselves larger than L2 are packed once a block, which 1024 rows
    // repay.
    constexpr index_t kBudget = 256 * 1024;
    constexpr index_t kWideBytes = 512 * 1024;
    constexpr index_t kWideRows = 1056;
    constexpr index_t kLeastRows = 96;
    constexpr index_t kMostRows = 4128;
    if (n_params * item_size > kWideBytes) {
        return kWideRows;
    }
    index_t per_row = n_in();
    for (const RowLayer& layer : layers) {
        per_row += 3 * layer.n_out;
    }
    const index_t rows = kBudget / (per_row * item_size) / kLeastRows * kLeastRows;
    return std::clamp(rows, kLeastRows, kMostRows);
}

bool NetworkPlan::is_small() const {
    // Up to here a row's weights come from L1 and its input gradient is a short loop;
    // beyond, the tiles and packing of gemm.h repay their set-up.
    constexpr index_t kMostParams = 4096;
    return n_params <= kMostParams;
}

bool NetworkPlan::is_neuron(index_t rows) const {
    // x is stored by columns first: where that copy stays in L2 over the steps of a
    // fit, it is made once; beyond, reading x as it lies is faster.
    constexpr index_t kMostElements = 32 * 1024;
    return layers.size() == 1 && n_out() == 1 && loss == Loss::bce &&
           n_in() <= kNeuronInputs && rows <= kMostElements / n_in();
}

template <class T>
NetworkRunner<T>::NetworkRunner(const NetworkPlan& plan, index_t rows)
    : plan_(plan),
      small_(plan.is_small()),
      block_(std::min(plan.block_rows(sizeof(T)), std::max<index_t>(rows, 1))) {
    index_t total = block_ * (plan.n_in() + plan.n_out());
    index_t widest = 0;
    for (const auto& layer : plan.layers) {
        total += 2 * block_ * layer.n_out;
        widest = std::max(widest, layer.n_out);
        multiply_adds_per_row_ +=
            3.0 * static_cast<double>(layer.n_in) * static_cast<double>(layer.n_out) +
            16.0 * static_cast<double>(layer.n_out);
    }
    total += 2 * block_ * widest;
    space_ = Buffer<T>(total);
    T* next = space_.data();
    const auto take = [&](index_t cols) {
        T* p = next;
        next += block_ * cols;
        return p;
    };
    x_ = take(plan.n_in());
    t_ = take(plan.n_out());
    for (const auto& layer : plan.layers) {
        a_.push_back(take(layer.n_out));
        d_.push_back(take(layer.n_out));
    }
    dz_[0] = take(widest);
    dz_[1] = take(widest);
}

template <class T>
const T* NetworkRunner<T>::weights(const T* params, std::size_t l) const {
    return params + plan_.layers[l].w;
}

template <class T>
const T* NetworkRunner<T>::bias(const T* params, std::size_t l) const {
    return plan_.layers[l].b >= 0 ? params + plan_.layers[l].b : nullptr;
}

// Rows [begin, begin + rows) of the batch, gathered where they have an order of their
// own.
template <class T>
Batch<T> NetworkRunner<T>::take_block(const Batch<T>& batch, index_t begin,
                                      index_t rows) {
    Batch<T> block = {batch.x, batch.t, nullptr, rows};
    block.x.rows = rows;
    block.t.rows = rows;
    if (batch.order == nullptr) {
        block.x.data += begin * batch.x.stride;
        block.t.data += begin * batch.t.stride;
    }
    const auto gather = [&](const MatrixView<const T>& from, T* to) {
        const auto bytes = static_cast<std::size_t>(from.cols) * sizeof(T);
        for (index_t i = 0; i < rows; ++i) {
            const index_t row = batch.order == nullptr ? i : batch.order[begin + i];
            std::memcpy(to + i * from.cols, from.data + row * from.stride, bytes);
        }
        return MatrixView<const T>{to, rows, from.cols, from.cols};
    };
    if (batch.order != nullptr) {
        block.x = gather(batch.x, x_);
    }
    if (batch.order != nullptr || batch.t.stride != batch.t.cols) {
        block.t = gather(block.t, t_);  // the loss wants one long row
    }
    return block;
}

// Leaves every layer's output in a_, and where training its derivative in d_. The last
// layer's output is the pre-activation where the loss starts from it.
template <class T>
void NetworkRunner<T>::forward(const T* params, MatrixView<const T> x, bool training) {
    const auto& kernels = kernel_table().kernels<T>();
    T* workspace = thread_workspace<T>();
    const std::size_t last = plan_.layers.size() - 1;
    MatrixView<const T> input = x;
    for (std::size_t l = 0; l <= last; ++l) {
        const auto& layer = plan_.layers[l];
        const bool logits = l == last && training && from_logits(plan_.loss);
        const Activation f = logits ? Activation::identity : layer.activation;
        T* d = training && !is_linear(f) ? d_[l] : nullptr;
        kernels.forward({input,
                         {weights(params, l), layer.n_in, layer.n_out, layer.n_out},
                         bias(params, l),
                         f,
                         {a_[l], x.rows, layer.n_out, layer.n_out},
                         {d, x.rows, layer.n_out, layer.n_out},
                         workspace});
        input = {a_[l], x.rows, layer.n_out, layer.n_out};
    }
}

template <class T>
void NetworkRunner<T>::predict(const T* params, MatrixView<const T> x,
                               MatrixView<T> out, const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const std::size_t last = plan_.layers.size() - 1;
    const index_t n_out = plan_.n_out();
    for (index_t begin = 0; begin < x.rows; begin += block_) {
        const index_t rows = std::min(block_, x.rows - begin);
        forward(params, {x.data + begin * x.stride, rows, x.cols, x.stride}, false);
        if (plan_.loss == Loss::cross_entropy) {
            kernels.softmax(a_[last], rows, n_out);
        }
        for (index_t i = 0; i < rows; ++i) {
            std::memcpy(out.data + (begin + i) * out.stride, a_[last] + i * n_out,
                        static_cast<std::size_t>(n_out) * sizeof(T));
        }
        progress(static_cast<double>(rows) * multiply_adds_per_row_);
    }
}

template <class T>
void NetworkRunner<T>::backward(const T* params, T* grads, MatrixView<const T> x,
                                index_t rows, bool accumulate) {
    const auto& kernels = kernel_table().kernels<T>();
    T* workspace = thread_workspace<T>();
    const T* dz = a_.back();
    for (std::size_t l = plan_.layers.size(); l-- > 0;) {
        const auto& layer = plan_.layers[l];
        const MatrixView<const T> input =
            l == 0 ? x : MatrixView<const T>{a_[l - 1], rows, layer.n_in, layer.n_in};
        T* dx = l == 0 ? nullptr : dz_[l % 2];
        const T* factor =
            l == 0 || is_linear(plan_.layers[l - 1].activation) ? nullptr : d_[l - 1];
        kernels.backward({input,
                          {weights(params, l), layer.n_in, layer.n_out, layer.n_out},
                          {dz, rows, layer.n_out, layer.n_out},
                          grads + layer.w,
                          layer.b >= 0 ? grads + layer.b : nullptr,
                          {dx, rows, layer.n_in, layer.n_in},
                          factor,
                          accumulate,
                          workspace});
        dz = dx;
    }
}

template <class T>
void NetworkRunner<T>::store_by_columns(const Batch<T>& batch) {
    const index_t stride =
        (batch.rows + kNeuronLanes - 1) / kNeuronLanes * kNeuronLanes;
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
    if (plan_.is_neuron(batch.rows)) {
        store_by_columns(batch);
        prepared_ = true;
    }
}

template <class T>
double NetworkRunner<T>::neuron_loss(const T* params, T* grads, const Batch<T>& batch) {
    if (!prepared_) {
        store_by_columns(batch);
    }
    const RowLayer& layer = plan_.layers[0];
    const index_t stride =
        (batch.rows + kNeuronLanes - 1) / kNeuronLanes * kNeuronLanes;
    const T* x = columns_.data();
    const double total = kernel_table().kernels<T>().neuron_loss_gradient(
        {x, stride, x + stride * layer.n_in, batch.rows, layer.n_in, params + layer.w,
         bias(params, 0), grads + layer.w, layer.b >= 0 ? grads + layer.b : nullptr,
         T(1) / static_cast<T>(batch.rows)});
    return total / static_cast<double>(batch.rows);
}

template <class T>
double NetworkRunner<T>::loss(const T* params, T* grads, const Batch<T>& batch,
                              const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    if (batch.rows == 1 && grads != nullptr && small_) {
        const index_t row = batch.order == nullptr ? 0 : batch.order[0];
        progress(multiply_adds_per_row_);
        return kernels.row_loss_gradient(
            {plan_.layers.data(), static_cast<index_t>(plan_.layers.size()), plan_.loss,
             params, grads, batch.x.data + row * batch.x.stride,
             batch.t.data + row * batch.t.stride, a_[0]});
    }
    if (grads != nullptr && plan_.is_neuron(batch.rows)) {
        progress(static_cast<double>(batch.rows) * multiply_adds_per_row_);
        return neuron_loss(params, grads, batch);
    }
    const T scale = T(1) / static_cast<T>(batch.rows);
    double total = 0;
    for (index_t begin = 0; begin < batch.rows; begin += block_) {
        const index_t rows = std::min(block_, batch.rows - begin);
        const Batch<T> block = take_block(batch, begin, rows);
        forward(params, block.x, true);
        const T* derivative =
            is_linear(plan_.layers.back().activation) ? nullptr : d_.back();
        total += kernels.loss_gradient({plan_.loss, a_.back(), derivative, block.t.data,
                                        rows, plan_.n_out(), scale, grads != nullptr});
        if (grads != nullptr) {
            backward(params, grads, block.x, rows, begin > 0);
        }
        progress(static_cast<double>(rows) * multiply_adds_per_row_);
    }
    return total / static_cast<double>(batch.rows);
}

template class NetworkRunner<float>;
template class NetworkRunner<double>;

}  // namespace siglin
