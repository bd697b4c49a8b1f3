// The right operand of a product, packed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "blocks.h"
#include "buffer.h"
#include "dispatch.h"
#include "kernel_table.h"

namespace siglin {

// What pack_panels leaves of b (k, n): its size in elements, and the work shared. A
// packed operand takes at most so many: beyond, the copy would be as good as a second
// network in memory, and blocks pack what they need, piece by piece.
template <class T>
inline constexpr index_t kMostPacked = 64 * 1024 * 1024 / sizeof(T);
template <class T>
index_t packed_size(index_t k, index_t n) {
    const index_t cols = kernel_table().kernels<T>().tile_cols;
    return k * ((n + cols - 1) / cols * cols);
}

// run(begin, end) for all panels of a packed (k, n) matrix.
template <class T, class Run>
void share_panels(index_t k, index_t n, const Run& run) {
    constexpr index_t kPanels = 4;  // together
    const auto& kernels = kernel_table().kernels<T>();
    const index_t panels = (n + kernels.tile_cols - 1) / kernels.tile_cols;
    // A copied element costs about as much as 8 multiply-adds.
    parallel_for((panels + kPanels - 1) / kPanels, 8.0 * area(k, n), [&](index_t i) {
        run(i * kPanels, std::min((i + 1) * kPanels, panels));
    });
}

template <class T>
void pack(const T* b, index_t step, bool transposed, index_t k, index_t n, T* packed) {
    const auto& kernels = kernel_table().kernels<T>();
    share_panels<T>(k, n, [&](index_t begin, index_t end) {
        kernels.pack_panels({b, step, transposed, k, n, begin, end, packed});
    });
}

// The right operand b (k, n) of a product of m rows, packed for all of its blocks of
// rows where that pays. Its memory is the thread's, taken for the time of one product:
// between its blocks a signal handler may run, with products of its own.
template <class T>
class PackedOperand {
  public:
    PackedOperand() = default;
    ~PackedOperand() {
        if (space_.bytes > idle().bytes) {
            idle() = std::move(space_);
        }
    }
    PackedOperand(const PackedOperand&) = delete;
    PackedOperand& operator=(const PackedOperand&) = delete;

    // Null where nothing is packed.
    const T* data() const { return packed_; }

    void pack(const T* b, index_t step, bool transposed, index_t k, index_t n,
              index_t m) {
        const auto& kernels = kernel_table().kernels<T>();
        const index_t size = packed_size<T>(k, n);
        if ((transposed || kernels.pack_b_pays(m, n, k)) && size <= kMostPacked<T>) {
            packed_ = take(size);
            siglin::pack<T>(b, step, transposed, k, n, packed_);
        }
    }

    // See reserve_products.
    static void reserve(index_t size) {
        const auto bytes = static_cast<std::size_t>(size) * sizeof(T);
        if (idle().bytes < bytes) {
            idle() = Space{};
            idle() = {Buffer<std::byte>(static_cast<index_t>(bytes)), bytes};
        }
    }

    // The blocks [first, last) of the depth k of b, for products of m rows with one
    // block each.
    void pack_depths(MatrixView<const T> b, index_t k, index_t first, index_t last,
                     index_t m) {
        const auto& kernels = kernel_table().kernels<T>();
        const index_t top = depth_begin(k, first);
        const index_t size = packed_size<T>(depth_begin(k, last) - top, b.cols);
        if (kernels.pack_b_pays(m, b.cols, kDepth) && size <= kMostPacked<T>) {
            packed_ = take(size);
            for (index_t d = first; d < last; ++d) {
                const index_t p = depth_begin(k, d);
                siglin::pack<T>(b.data + p * b.stride, b.stride, false,
                                depth_begin(k, d + 1) - p, b.cols,
                                packed_ + (p - top) * packed_size<T>(1, b.cols));
            }
        }
    }

    // w.T of a packed w (n_in, n_out).
    void transpose(const T* packed_w, index_t n_in, index_t n_out) {
        const auto& kernels = kernel_table().kernels<T>();
        packed_ = take(packed_size<T>(n_out, n_in));
        share_panels<T>(n_out, n_in, [&](index_t begin, index_t end) {
            kernels.transpose_panels({packed_w, n_in, n_out, begin, end, packed_});
        });
    }

  private:
    struct Space {
        Buffer<std::byte> memory;
        std::size_t bytes = 0;
    };

    static Space& idle() {
        thread_local Space space;
        return space;
    }

    T* take(index_t size) {
        const auto bytes = static_cast<std::size_t>(size) * sizeof(T);
        space_ = std::exchange(idle(), Space{});
        if (space_.bytes < bytes) {
            space_ = Space{};
            space_ = {Buffer<std::byte>(static_cast<index_t>(bytes)), bytes};
        }
        return reinterpret_cast<T*>(space_.memory.data());
    }

    Space space_;
    T* packed_ = nullptr;
};

// Takes all memory that products of this thread will need that pack an operand of at
// most so many elements: they cannot run out of it then. (A helper takes its own before
// it begins.)
template <class T>
void reserve_products(index_t packed) {
    thread_workspace<T>();
    PackedOperand<T>::reserve(packed);
}

}  // namespace siglin
