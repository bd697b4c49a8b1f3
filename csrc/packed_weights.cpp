#include "packed_weights.h"

#include "dispatch.h"
#include "layer.h"

namespace siglin {

template <class T>
PackedWeights<T>::PackedWeights(const std::vector<RowLayer>& layers, index_t rows)
    : layers_(layers) {
    // What is packed anew comes from L2, what is kept from L3 where there is more:
    // 784-128-10 takes 2 % less time with its weights kept, 784-512-256-10 (2.1 MB) a
    // little more.
    constexpr index_t kMost = 2 * 1024 * 1024 / sizeof(T);
    const auto& kernels = kernel_table().kernels<T>();
    for (const RowLayer& layer : layers) {
        const bool pays = 2 * layer.n_out >= kernels.tile_cols &&
                          kernels.pack_b_pays(rows, layer.n_out, layer.n_in);
        const index_t size = packed_size<T>(layer.n_in, layer.n_out);
        starts_.push_back(pays && size <= kMost - size_ ? size_ : -1);
        size_ += starts_.back() < 0 ? 0 : size;
    }
}

template <class T>
void PackedWeights<T>::load(const T* params) {
    if (current_ || size_ == 0) {
        return;
    }
    if (memory_.data() == nullptr) {
        memory_ = Buffer<T>(size_);
    }
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const RowLayer& layer = layers_[l];
        if (starts_[l] >= 0) {
            pack<T>(params + layer.w, layer.n_out, false, layer.n_in, layer.n_out,
                    memory_.data() + starts_[l]);
        }
    }
    current_ = true;
}

template <class T>
void PackedWeights<T>::settle(T* params) {
    if (!current_) {
        return;
    }
    const auto& kernels = kernel_table().kernels<T>();
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        const RowLayer& layer = layers_[l];
        if (starts_[l] >= 0) {
            kernels.unpack_panels({memory_.data() + starts_[l], layer.n_in, layer.n_out,
                                   params + layer.w});
        }
    }
    current_ = false;
}

template class PackedWeights<float>;
template class PackedWeights<double>;

}  // namespace siglin
