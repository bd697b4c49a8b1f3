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
        layers.push_back({n_in, n_out, activations[l], biases[l], w, b});
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
    for (const Layer& layer : layers) {
        per_row += 3 * layer.n_out;
    }
    const index_t rows = kBudget / (per_row * item_size) / kLeastRows * kLeastRows;
    return std::clamp(rows, kLeastRows, kMostRows);
}

template <class T>
NetworkRunner<T>::NetworkRunner(const NetworkPlan& plan, index_t rows)
    : plan_(plan),
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
    return plan_.layers[l].bias ? params + plan_.layers[l].b : nullptr;
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
        return block;
    }
    const auto gather = [&](const MatrixView<const T>& from, T* to) {
        const auto bytes = static_cast<std::size_t>(from.cols) * sizeof(T);
        for (index_t i = 0; i < rows; ++i) {
            std::memcpy(to + i * from.cols,
                        from.data + batch.order[begin + i] * from.stride, bytes);
        }
        return MatrixView<const T>{to, rows, from.cols, from.cols};
    };
    block.x = gather(batch.x, x_);
    block.t = gather(batch.t, t_);
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
                          layer.bias ? grads + layer.b : nullptr,
                          {dx, rows, layer.n_in, layer.n_in},
                          factor,
                          accumulate,
                          workspace});
        dz = dx;
    }
}

template <class T>
double NetworkRunner<T>::loss(const T* params, T* grads, const Batch<T>& batch,
                              const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const T scale = T(1) / static_cast<T>(batch.rows);
    double total = 0;
    for (index_t begin = 0; begin < batch.rows; begin += block_) {
        const index_t rows = std::min(block_, batch.rows - begin);
        const Batch<T> block = take_block(batch, begin, rows);
        forward(params, block.x, true);
        const T* derivative =
            is_linear(plan_.layers.back().activation) ? nullptr : d_.back();
        total += kernels.loss_gradient(
            {plan_.loss, a_.back(), derivative, block.t, scale, grads != nullptr});
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
