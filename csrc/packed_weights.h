// The weights of a network as its products want them, kept over the steps of a fit.
#pragma once

#include <vector>

#include "buffer.h"
#include "kernel_table.h"
#include "view.h"

namespace siglin {

// While current, the weights of some layers are here and those in params are old: steps
// that subtract their gradients as they find them write here. Many rows at once want
// panels, as pack_panels leaves them; few want rows that begin at a cache line, zeros
// past their ends. All other parameters stay in params.
template <class T>
class PackedWeights {
  public:
    // rows: of a batch; sparse: whether they are, so that the first layer's weights
    // stay where they are.
    PackedWeights(const std::vector<RowLayer>& layers, index_t rows, bool sparse);

    void load(const T* params);
    // Back to params, which may then change.
    void settle(T* params);

    // The panels of layer l, or null where there are none.
    T* panels(std::size_t l) const {
        return current_ && kinds_[l] == Kind::panels ? at(l) : nullptr;
    }
    // The rows of layer l, wherever they are. Not to be read where there are panels.
    template <class U>
    MatrixView<U> rows(std::size_t l, U* params) const {
        const RowLayer& layer = layers_[l];
        if (current_ && kinds_[l] == Kind::rows) {
            return {at(l), layer.n_in, layer.n_out, stride(layer)};
        }
        return {params + layer.w, layer.n_in, layer.n_out, layer.n_out};
    }

    bool has_rows(std::size_t l) const { return current_ && kinds_[l] == Kind::rows; }

  private:
    enum class Kind : int { params, panels, rows };

    T* at(std::size_t l) const { return memory_.data() + starts_[l]; }
    static index_t stride(const RowLayer& layer) {
        constexpr index_t kLine = 64 / sizeof(T);
        return (layer.n_out + kLine - 1) / kLine * kLine;
    }

    const std::vector<RowLayer>& layers_;
    std::vector<Kind> kinds_;
    std::vector<index_t> starts_;
    index_t size_ = 0;
    Buffer<T> memory_;
    bool current_ = false;
};

}  // namespace siglin
