#include "layer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "buffer.h"
#include "dispatch.h"
#include "parallel.h"

namespace siglin {
namespace {

// The work of one element, in multiply-adds: 0.69 ns for a float32 sigmoid, 1.57 for a
// float64 one; the piecewise linear ones take what reading and writing takes.
template <class T>
double activation_cost(Activation f) {
    const bool has_exp = f == Activation::sigmoid || f == Activation::tanh;
    return (has_exp ? 40.0 : 4.0) * sizeof(T) / sizeof(float);
}

// row(i, cols) for each row of a (rows, cols) matrix, or once for all if one_row.
template <class Row>
void for_each_row(index_t rows, index_t cols, bool one_row, Row row) {
    if (one_row) {
        row(0, rows * cols);
        return;
    }
    for (index_t i = 0; i < rows; ++i) {
        row(i, cols);
    }
}

template <class T>
bool contiguous(const MatrixView<T>& v) {
    return v.stride == v.cols;
}

double area(index_t rows, index_t cols) {
    return static_cast<double>(rows) * static_cast<double>(cols);
}

template <class T>
MatrixView<T> rows_of(const MatrixView<T>& v, index_t begin, index_t rows) {
    return {v.data + begin * v.stride, rows, v.cols, v.stride};
}

// A block of rows that is worth handing over, in multiply-adds.
constexpr double kLeastWork = 2e5;

// The rows of a product that are made together. On one thread a block of a few hundred
// kilobytes of results is activated while it is in L2; several threads get four blocks
// each, if a block is worth handing over, so that one who is held up holds up little.
template <class T>
index_t rows_of_block(const Kernels<T>& kernels, index_t rows, double work) {
    constexpr index_t kMost = 192;  // kBlockRows of gemm.h
    if (!shares_rows(work)) {
        return rows <= kMost + kMost / 2 ? rows : kMost;
    }
    const double most_blocks = std::min(4.0 * num_threads(), work / kLeastWork);
    const auto even = static_cast<index_t>(static_cast<double>(rows) / most_blocks) + 1;
    const index_t tiles = (even + kernels.tile_rows - 1) / kernels.tile_rows;
    return std::min({tiles * kernels.tile_rows, kMost, std::max<index_t>(rows, 1)});
}

// run(begin, rows) for all blocks of rows.
template <class Run>
void share_rows(index_t rows, index_t block, double work, const Progress* progress,
                const Run& run) {
    constexpr double kWorkBetweenCalls = 5e8;  // 10 ms of one core
    const index_t blocks = block >= rows ? 1 : (rows + block - 1) / block;
    index_t wave = blocks;
    if (progress != nullptr && work > kWorkBetweenCalls) {
        // Waves of as many blocks for each thread, since they wait for each other.
        const index_t threads = num_threads();
        const auto waves = std::max<index_t>(
            static_cast<index_t>(work / (kWorkBetweenCalls * num_threads())), 1);
        wave = (blocks + waves * threads - 1) / (waves * threads) * threads;
    }
    for (index_t first = 0; first < blocks; first += wave) {
        const index_t count = std::min(wave, blocks - first);
        const double share =
            work * static_cast<double>(count) / static_cast<double>(blocks);
        parallel_for(count, share, [&](index_t i) {
            const index_t begin = (first + i) * block;
            run(begin, std::min(block, rows - begin));
        });
        if (progress != nullptr) {
            (*progress)(share);
        }
    }
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

}  // namespace

bool shares_rows(double work) { return num_threads() > 1 && work >= 2 * kLeastWork; }

template <class T>
void reserve_products(index_t packed) {
    thread_workspace<T>();
    PackedOperand<T>::reserve(packed);
}

template <class T>
index_t packed_size(index_t k, index_t n) {
    const index_t cols = kernel_table().kernels<T>().tile_cols;
    return k * ((n + cols - 1) / cols * cols);
}

template <class T>
void pack(const T* b, index_t step, bool transposed, index_t k, index_t n, T* packed) {
    const auto& kernels = kernel_table().kernels<T>();
    share_panels<T>(k, n, [&](index_t begin, index_t end) {
        kernels.pack_panels({b, step, transposed, k, n, begin, end, packed});
    });
}

template <class T>
void activate_elements(Activation activation, const T* z, T* a, index_t n) {
    // 32 kB of float32: some microseconds, so that a late helper is not missed, and
    // whole vectors on every target.
    constexpr index_t kBlock = 8 * 1024;
    const auto& kernels = kernel_table().kernels<T>();
    parallel_for((n + kBlock - 1) / kBlock,
                 activation_cost<T>(activation) * static_cast<double>(n),
                 [&](index_t block) {
                     const index_t begin = block * kBlock;
                     kernels.activate(activation, z + begin, a + begin, nullptr,
                                      std::min(kBlock, n - begin));
                 });
}

template <class T>
void layer_forward(MatrixView<const T> x, MatrixView<const T> w, const T* b,
                   Activation activation, MatrixView<T> a, MatrixView<T> derivative,
                   const Progress* progress, const T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    const double work = area(a.rows, a.cols) *
                        (static_cast<double>(x.cols) + activation_cost<T>(activation));
    const index_t block = rows_of_block(kernels, a.rows, work);
    PackedOperand<T> packed;
    if (packed_w == nullptr && block < a.rows) {
        packed.pack(w.data, w.stride, false, x.cols, a.cols, a.rows);
    }
    share_rows(a.rows, block, work, progress, [&](index_t begin, index_t rows) {
        T* d = derivative.data;
        kernels.forward({rows_of(x, begin, rows),
                         w,
                         b,
                         activation,
                         rows_of(a, begin, rows),
                         {d == nullptr ? d : d + begin * derivative.stride, rows,
                          derivative.cols, derivative.stride},
                         thread_workspace<T>(),
                         packed_w != nullptr ? packed_w : packed.data()});
    });
}

template <class T>
void layer_input_gradient(MatrixView<const T> dz, MatrixView<const T> w,
                          MatrixView<T> dx, const T* factor, bool factor_is_relu,
                          const Progress* progress, const T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    const double work = area(dx.rows, dx.cols) * static_cast<double>(dz.cols + 1);
    const index_t block = rows_of_block(kernels, dx.rows, work);
    PackedOperand<T> packed;
    if (packed_w != nullptr) {
        packed.transpose(packed_w, dx.cols, dz.cols);
    } else if (block < dx.rows) {
        packed.pack(w.data, w.stride, true, dz.cols, dx.cols, dx.rows);
    }
    share_rows(dx.rows, block, work, progress, [&](index_t begin, index_t rows) {
        kernels.input_gradient({rows_of(dz, begin, rows), w, rows_of(dx, begin, rows),
                                factor == nullptr ? factor : factor + begin * dx.stride,
                                thread_workspace<T>(), packed.data(), factor_is_relu});
    });
}

template <class T>
void layer_weight_gradient(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                           bool accumulate, MatrixView<T> w, T lr,
                           const Progress* progress, T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n_in = x.cols;
    const index_t n_out = dz.cols;
    const double work = area(n_in, n_out) * static_cast<double>(x.rows + 1);
    const index_t block = rows_of_block(kernels, n_in, work);
    PackedOperand<T> packed;
    if (block < n_in || packed_w != nullptr) {
        packed.pack(dz.data, dz.stride, false, x.rows, n_out, n_in);
    }
    const index_t step = kernels.tile_cols;
    const auto args_at = [&](index_t begin, index_t rows) -> WeightGradientArgs<T> {
        return {{x.data + begin, x.rows, rows, x.stride},
                dz,
                dw == nullptr ? dw : dw + begin * n_out,
                accumulate,
                thread_workspace<T>(),
                packed.data(),
                w.data == nullptr ? w.data : w.data + begin * w.stride,
                lr,
                w.stride,
                step};
    };
    if (packed_w == nullptr) {
        share_rows(n_in, block, work, progress, [&](index_t begin, index_t rows) {
            kernels.weight_gradient(args_at(begin, rows));
        });
        return;
    }
    // In each block of depth of w pieces of their own, all about as large.
    const index_t depths = depth_blocks(n_in);
    const index_t depth = depth_begin(n_in, 1);
    const index_t least = (depth + block - 1) / block;
    index_t pieces = least;
    while (depths * pieces % num_threads() != 0 && pieces < 2 * least) {
        ++pieces;  // as many for each thread
    }
    const index_t piece = (depth / kernels.tile_rows + pieces - 1) / pieces;
    parallel_for(depths * pieces, work, [&](index_t i) {
        const index_t first = depth_begin(n_in, i / pieces);
        const index_t last = depth_begin(n_in, i / pieces + 1);
        const index_t begin = first + i % pieces * piece * kernels.tile_rows;
        const index_t end = i % pieces == pieces - 1
                                ? last
                                : std::min(last, begin + piece * kernels.tile_rows);
        if (begin >= end) {
            return;
        }
        WeightGradientArgs<T> args = args_at(begin, end - begin);
        args.w = packed_w + first * packed_size<T>(1, n_out) + (begin - first) * step;
        args.w_step = step;
        args.w_panel = (last - first) * step;
        kernels.weight_gradient(args);
    });
}

template <class T>
void pre_activation_gradient(Activation activation, MatrixView<const T> a,
                             MatrixView<const T> z, MatrixView<const T> da, T* dz) {
    const auto& kernels = kernel_table().kernels<T>();
    const MatrixView<const T>& from = z.data == nullptr ? a : z;
    for_each_row(da.rows, da.cols, contiguous(from) && contiguous(da),
                 [&](index_t i, index_t n) {
                     T* row = dz + i * da.cols;
                     if (z.data == nullptr) {
                         kernels.derivative_from_a(activation,
                                                   from.data + i * from.stride, row, n);
                     } else {
                         kernels.activate(activation, from.data + i * from.stride,
                                          nullptr, row, n);
                     }
                     kernels.scale_by(da.data + i * da.stride, row, n);
                 });
}

template <class T>
void multiply(MatrixView<const T> derivative, MatrixView<const T> da, T* dz) {
    const auto& kernels = kernel_table().kernels<T>();
    for_each_row(da.rows, da.cols, contiguous(derivative) && contiguous(da),
                 [&](index_t i, index_t n) {
                     T* row = dz + i * da.cols;
                     std::memcpy(row, derivative.data + i * derivative.stride,
                                 static_cast<std::size_t>(n) * sizeof(T));
                     kernels.scale_by(da.data + i * da.stride, row, n);
                 });
}

template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db) {
    const MatrixView<const T> dz_view = {dz, x.rows, w.cols, w.cols};
    if (dx.data != nullptr) {
        layer_input_gradient<T>(dz_view, w, dx, nullptr, false);
    }
    layer_weight_gradient<T>(x, dz_view, dw, false, {}, T(0));
    if (db != nullptr) {
        kernel_table().kernels<T>().column_sums(dz_view, db, false);
    }
}

template <class T>
void gradient_descent(MatrixView<T> param, MatrixView<const T> grad, T lr) {
    const auto& kernels = kernel_table().kernels<T>();
    for_each_row(param.rows, param.cols, contiguous(param) && contiguous(grad),
                 [&](index_t i, index_t n) {
                     UpdateArgs<T> args = {};
                     args.param = param.data + i * param.stride;
                     args.grad = grad.data + i * grad.stride;
                     args.n = n;
                     args.lr = lr;
                     args.unchecked = true;
                     kernels.gd(args);
                 });
}

#define SIGLIN_INSTANTIATE(T)                                                          \
    template void reserve_products<T>(index_t);                                        \
    template index_t packed_size<T>(index_t, index_t);                                 \
    template void pack<T>(const T*, index_t, bool, index_t, index_t, T*);              \
    template void activate_elements<T>(Activation, const T*, T*, index_t);             \
    template void layer_forward<T>(MatrixView<const T>, MatrixView<const T>, const T*, \
                                   Activation, MatrixView<T>, MatrixView<T>,           \
                                   const Progress*, const T*);                         \
    template void pre_activation_gradient<T>(Activation, MatrixView<const T>,          \
                                             MatrixView<const T>, MatrixView<const T>, \
                                             T*);                                      \
    template void multiply<T>(MatrixView<const T>, MatrixView<const T>, T*);           \
    template void layer_input_gradient<T>(MatrixView<const T>, MatrixView<const T>,    \
                                          MatrixView<T>, const T*, bool,               \
                                          const Progress*, const T*);                  \
    template void layer_weight_gradient<T>(MatrixView<const T>, MatrixView<const T>,   \
                                           T*, bool, MatrixView<T>, T,                 \
                                           const Progress*, T*);                       \
    template void layer_backward<T>(MatrixView<const T>, MatrixView<const T>,          \
                                    const T*, MatrixView<T>, T*, T*);                  \
    template void gradient_descent<T>(MatrixView<T>, MatrixView<const T>, T);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
