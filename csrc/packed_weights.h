// The weights of a network as its products want them, kept over the steps of a fit.
#pragma once

#include <vector>

#include "buffer.h"
#include "kernel_table.h"
#include "view.h"

namespace siglin {

// While current(), the weights of the packed layers are here and those in params are
// old: steps that subtract their gradients as they find them write here. All other
// parameters stay in params.
template <class T>
class PackedWeights {
  public:
    // rows: of a batch, which decides which layers repay packing.
    PackedWeights(const std::vector<RowLayer>& layers, index_t rows);

    bool current() const { return current_; }
    void load(const T* params);
    // Back to params, which may then change.
    void settle(T* params);

    // Layer l, or null where it is not packed or not current.
    T* layer(std::size_t l) const {
        return current_ && starts_[l] >= 0 ? memory_.data() + starts_[l] : nullptr;
    }

  private:
    const std::vector<RowLayer>& layers_;
    std::vector<index_t> starts_;  // -1: not packed
    index_t size_ = 0;
    Buffer<T> memory_;
    bool current_ = false;
};

}  // namespace siglin
