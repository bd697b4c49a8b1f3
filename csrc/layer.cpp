#include "layer.h"

#include <algorithm>
#include <cmath>
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
    if (cols == 0) {
        return;
    }
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

// Of a view whose data may be null.
template <class T>
MatrixView<T> columns_of(const MatrixView<T>& v, index_t begin, index_t cols) {
    return {v.data == nullptr ? v.data : v.data + begin, v.rows, cols, v.stride};
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

// What a thread does at most between two calls of Progress, in multiply-adds of
// float32: 8 ms of one core of a 2.6 GHz Zen 4, 50 of one without fused multiply-adds.
// (With 3e8 two threads wait for each other so often that 400 rows of 3000 x 3000 take
// 1.1 times as long where other work shares the machine.)
constexpr double kMostBetweenCalls = 5e8;

// The time of work, in that measure, on so many elements of memory: half a nanosecond
// for each float32, with what the system does for a page that is touched first.
template <class T>
double time_of(double multiply_adds, double elements) {
    return (multiply_adds + 30.0 * elements) * sizeof(T) / sizeof(float);
}

// What a block, which nothing can interrupt, takes at most, if it can be cut.
constexpr double kMostOfBlock = 2 * kMostBetweenCalls;

// How many of the `block` rows take less than kMostOfBlock together, in whole tiles
// where that is one or more. time: of a row.
index_t rows_between_calls(index_t block, double time, index_t tile) {
    const double most = kMostOfBlock / std::max(time, 1.0);
    if (most >= static_cast<double>(block)) {
        return block;
    }
    const auto rows = std::max(static_cast<index_t>(most), index_t{1});
    return rows < tile ? rows : rows / tile * tile;
}

// The columns of a product's right operand (k, n) that are worked on together where
// progress is asked for: fewer than all where a block of rows would take too long. With
// fewer rows instead, the operand would be read from memory too often (256 rows of
// 1800 x 1800, float32, one thread: 1.18 times the time).
template <class T>
index_t columns_between_calls(const Kernels<T>& kernels, index_t block, index_t k,
                              index_t n) {
    const double each =
        static_cast<double>(k) * time_of<T>(static_cast<double>(block), 1);
    const double pieces = static_cast<double>(n) * each / kMostOfBlock;
    if (pieces <= 1) {
        return n;
    }
    const auto cols = static_cast<index_t>(static_cast<double>(n) / std::ceil(pieces));
    return (cols / kernels.tile_cols + 1) * kernels.tile_cols;
}

// share_rows of more than one block.
template <class Run>
[[gnu::noinline]] void share_blocks(index_t rows, index_t block, double work,
                                    double time, const Progress* progress,
                                    const Run& run) {
    const index_t blocks = block >= rows ? 1 : (rows + block - 1) / block;
    index_t wave = blocks;
    if (progress != nullptr && time > kMostBetweenCalls) {
        // Waves of as many blocks for each thread, since they wait for each other.
        const index_t threads = num_threads();
        const auto waves = std::max<index_t>(
            static_cast<index_t>(time / (kMostBetweenCalls * num_threads())), 1);
        wave = (blocks + waves * threads - 1) / (waves * threads) * threads;
    }
    for (index_t first = 0; first < blocks; first += wave) {
        const index_t count = std::min(wave, blocks - first);
        const double share = static_cast<double>(count) / static_cast<double>(blocks);
        parallel_for(count, share * work, [&](index_t i) {
            const index_t begin = (first + i) * block;
            run(begin, std::min(block, rows - begin));
        });
        if (progress != nullptr) {
            const double done = share * time;
            (*progress)(done);
        }
    }
}

// run(begin, rows) for all blocks of rows. work: of all in multiply-adds, which decides
// how many threads take part; time (time_of): when progress is called.
template <class Run>
void share_rows(index_t rows, index_t block, double work, double time,
                const Progress* progress, const Run& run) {
    if (rows == 0) {
        return;
    }
    if (progress == nullptr && rows <= block) {
        run(index_t{0}, rows);
        return;
    }
    share_blocks(rows, block, work, time, progress, run);
}

// Elements that are handed over together: 32 kB of float32, some microseconds, so that
// a late helper is not missed, and whole vectors on every target.
constexpr index_t kElements = 8 * 1024;

// run(begin, n) for all elements, in blocks. work: of one, which reads or writes
// `touched` elements of memory.
template <class T, class Run>
void share_elements(index_t count, double work, double touched,
                    const Progress* progress, const Run& run) {
    const double total = work * static_cast<double>(count);
    const double time = time_of<T>(total, touched * static_cast<double>(count));
    share_rows(count, kElements, total, time, progress, run);
}

// run(p, q, begin, n) for n elements each of two matrices of one shape, p and q being
// where they lie and `begin` the number of the first.
template <class T, class Run>
void share_pieces(MatrixView<const T> first, MatrixView<const T> second, double work,
                  const Progress* progress, const Run& run) {
    constexpr double kTouched = 3;  // two are read, one is written
    const index_t cols = first.cols;
    if (cols == 0) {
        return;
    }
    if (contiguous(first) && contiguous(second)) {
        share_elements<T>(first.rows * cols, work, kTouched, progress,
                          [&](index_t begin, index_t n) {
                              run(first.data + begin, second.data + begin, begin, n);
                          });
        return;
    }
    // Some rows together, or a part of one.
    const index_t parts = (cols + kElements - 1) / kElements;
    const double total = work * area(first.rows, cols);
    share_rows(first.rows * parts, std::max(kElements / cols, index_t{1}), total,
               time_of<T>(total, kTouched * area(first.rows, cols)), progress,
               [&](index_t begin, index_t count) {
                   for (index_t piece = begin; piece < begin + count; ++piece) {
                       const index_t i = piece / parts;
                       const index_t j = piece % parts * kElements;
                       run(first.data + i * first.stride + j,
                           second.data + i * second.stride + j, i * cols + j,
                           std::min(kElements, cols - j));
                   }
               });
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

// dw = x.T @ dz, or added to dw, with a call of progress after each `together` blocks
// of depth: the bits of one product, which goes from block to block as well.
template <class T>
void weight_gradient_in_pieces(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                               bool accumulate, index_t together,
                               const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n_in = x.cols;
    const index_t n_out = dz.cols;
    const index_t depths = depth_blocks(x.rows);
    for (index_t first = 0; first < depths; first += together) {
        const index_t last = std::min(first + together, depths);
        const index_t top = depth_begin(x.rows, first);
        const index_t depth = depth_begin(x.rows, last) - top;
        const double work = area(n_in, n_out) * static_cast<double>(depth);
        const double touched =
            area(n_in, n_out) + area(depth, n_in) + area(depth, n_out);
        const double time = time_of<T>(work, touched);
        const index_t block =
            rows_between_calls(rows_of_block(kernels, n_in, work),
                               time / static_cast<double>(n_in), kernels.tile_rows);
        PackedOperand<T> packed;
        if (block < n_in) {
            packed.pack_depths(dz, x.rows, first, last, n_in);
        }
        share_rows(
            n_in, block, work, time, &progress, [&](index_t begin, index_t rows) {
                for (index_t d = first; d < last; ++d) {
                    const index_t p = depth_begin(x.rows, d);
                    const index_t k = depth_begin(x.rows, d + 1) - p;
                    kernels.weight_gradient(
                        {{x.data + p * x.stride + begin, k, rows, x.stride},
                         rows_of(dz, p, k),
                         dw + begin * n_out,
                         accumulate || d > 0,
                         thread_workspace<T>(),
                         packed.data() == nullptr
                             ? nullptr
                             : packed.data() + (p - top) * packed_size<T>(1, n_out)});
                }
            });
    }
}

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
void activate_elements(Activation activation, const T* z, T* a, index_t n,
                       const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    share_elements<T>(n, activation_cost<T>(activation), 2, progress,
                      [&](index_t begin, index_t count) {
                          kernels.activate(activation, z + begin, a + begin, nullptr,
                                           count);
                      });
}

template <class T>
void layer_forward(MatrixView<const T> x, MatrixView<const T> w, const T* b,
                   Activation activation, MatrixView<T> a, MatrixView<T> derivative,
                   const Progress* progress, const T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    if (a.rows == 0 || a.cols == 0) {
        return;
    }
    const double each = activation_cost<T>(activation) + static_cast<double>(x.cols);
    const double work = area(a.rows, a.cols) * each;
    index_t block = rows_of_block(kernels, a.rows, work);
    const bool cuts = progress != nullptr && packed_w == nullptr;
    if (cuts) {
        const index_t most = columns_between_calls(kernels, block, x.cols, a.cols);
        if (most < a.cols) {
            for (index_t j = 0; j < a.cols; j += most) {
                const index_t n = std::min(most, a.cols - j);
                layer_forward<T>(x, columns_of(w, j, n), b == nullptr ? b : b + j,
                                 activation, columns_of(a, j, n),
                                 columns_of(derivative, j, n), progress, nullptr);
            }
            return;
        }
    }
    const double time =
        time_of<T>(work, area(a.rows, x.cols) + 2 * area(a.rows, a.cols));
    if (cuts) {
        block = rows_between_calls(block, time / static_cast<double>(a.rows),
                                   kernels.tile_rows);
    }
    PackedOperand<T> packed;
    if (packed_w == nullptr && block < a.rows) {
        packed.pack(w.data, w.stride, false, x.cols, a.cols, a.rows);
    }
    share_rows(a.rows, block, work, time, progress, [&](index_t begin, index_t rows) {
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
    if (dx.rows == 0 || dx.cols == 0) {
        return;
    }
    const double work = area(dx.rows, dx.cols) * static_cast<double>(dz.cols + 1);
    index_t block = rows_of_block(kernels, dx.rows, work);
    // A factor goes over whole rows.
    const bool cuts = progress != nullptr && packed_w == nullptr && factor == nullptr;
    if (cuts) {
        const index_t most = columns_between_calls(kernels, block, dz.cols, dx.cols);
        if (most < dx.cols) {
            for (index_t j = 0; j < dx.cols; j += most) {
                const index_t n = std::min(most, dx.cols - j);
                layer_input_gradient<T>(dz, rows_of(w, j, n), columns_of(dx, j, n),
                                        factor, factor_is_relu, progress, nullptr);
            }
            return;
        }
    }
    const double time =
        time_of<T>(work, area(dx.rows, dx.cols) + area(dz.rows, dz.cols));
    if (cuts) {
        block = rows_between_calls(block, time / static_cast<double>(dx.rows),
                                   kernels.tile_rows);
    }
    PackedOperand<T> packed;
    if (packed_w != nullptr) {
        packed.transpose(packed_w, dx.cols, dz.cols);
    } else if (block < dx.rows) {
        packed.pack(w.data, w.stride, true, dz.cols, dx.cols, dx.rows);
    }
    share_rows(dx.rows, block, work, time, progress, [&](index_t begin, index_t rows) {
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
    if (n_in == 0 || n_out == 0) {
        return;
    }
    const double work = area(n_in, n_out) * static_cast<double>(x.rows + 1);
    const double time =
        time_of<T>(work, area(n_in, n_out) + area(x.rows, n_in + n_out));
    index_t block = rows_of_block(kernels, n_in, work);
    if (progress != nullptr && packed_w == nullptr && w.data == nullptr) {
        const double each = time / static_cast<double>(n_in);
        const index_t depths = depth_blocks(x.rows);
        if (depths > 1 && each * static_cast<double>(block) > kMostOfBlock) {
            const double most =
                kMostBetweenCalls * num_threads() * static_cast<double>(depths) / time;
            weight_gradient_in_pieces(
                x, dz, dw, accumulate,
                std::clamp(static_cast<index_t>(most), index_t{1}, depths), *progress);
            return;
        }
        block = rows_between_calls(block, each, kernels.tile_rows);
    }
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
        share_rows(n_in, block, work, time, progress, [&](index_t begin, index_t rows) {
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
                             MatrixView<const T> z, MatrixView<const T> da, T* dz,
                             const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const MatrixView<const T>& from = z.data == nullptr ? a : z;
    share_pieces<T>(from, da, activation_cost<T>(activation), progress,
                    [&](const T* source, const T* upstream, index_t begin, index_t n) {
                        T* to = dz + begin;
                        if (z.data == nullptr) {
                            kernels.derivative_from_a(activation, source, to, n);
                        } else {
                            kernels.activate(activation, source, nullptr, to, n);
                        }
                        kernels.scale_by(upstream, to, n);
                    });
}

template <class T>
void multiply(MatrixView<const T> derivative, MatrixView<const T> da, T* dz,
              const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    share_pieces<T>(derivative, da, activation_cost<T>(Activation::identity), progress,
                    [&](const T* d, const T* upstream, index_t begin, index_t n) {
                        T* to = dz + begin;
                        std::memcpy(to, d, static_cast<std::size_t>(n) * sizeof(T));
                        kernels.scale_by(upstream, to, n);
                    });
}

template <class T>
void sum_rows(MatrixView<const T> dz, T* sums, const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    constexpr index_t kChains = 4;  // of column_sums, whose bits these are
    const index_t n = dz.cols;
    const double time = time_of<T>(0, area(dz.rows, n));
    if (progress == nullptr || time <= kMostBetweenCalls) {
        kernels.column_sums(dz, sums, false);
        return;
    }
    // Four rows after each other are one element more for each chain.
    Buffer<T> chains(kChains * n);
    std::fill_n(chains.data(), kChains * n, T(0));
    const index_t pieces = static_cast<index_t>(time / kMostBetweenCalls) + 1;
    const index_t rows = (dz.rows / pieces / kChains + 1) * kChains;
    for (index_t begin = 0; begin < dz.rows; begin += rows) {
        const index_t end = std::min(begin + rows, dz.rows);
        for (index_t i = begin; i < end; i += kChains) {
            kernels.add_to(dz.data + i * n, chains.data(),
                           std::min(kChains, end - i) * n);
        }
        (*progress)(time / static_cast<double>(pieces));
    }
    T* const first = chains.data();
    kernels.add_to(first + n, first, n);
    kernels.add_to(first + 3 * n, first + 2 * n, n);
    kernels.add_to(first + 2 * n, first, n);
    std::copy_n(first, n, sums);
}

template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db, const Progress* progress) {
    const MatrixView<const T> dz_view = {dz, x.rows, w.cols, w.cols};
    if (dx.data != nullptr) {
        layer_input_gradient<T>(dz_view, w, dx, nullptr, false, progress);
    }
    layer_weight_gradient<T>(x, dz_view, dw, false, {}, T(0), progress);
    if (db != nullptr) {
        sum_rows<T>(dz_view, db, progress);
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
    template void activate_elements<T>(Activation, const T*, T*, index_t,              \
                                       const Progress*);                               \
    template void layer_forward<T>(MatrixView<const T>, MatrixView<const T>, const T*, \
                                   Activation, MatrixView<T>, MatrixView<T>,           \
                                   const Progress*, const T*);                         \
    template void pre_activation_gradient<T>(Activation, MatrixView<const T>,          \
                                             MatrixView<const T>, MatrixView<const T>, \
                                             T*, const Progress*);                     \
    template void multiply<T>(MatrixView<const T>, MatrixView<const T>, T*,            \
                              const Progress*);                                        \
    template void sum_rows<T>(MatrixView<const T>, T*, const Progress*);               \
    template void layer_input_gradient<T>(MatrixView<const T>, MatrixView<const T>,    \
                                          MatrixView<T>, const T*, bool,               \
                                          const Progress*, const T*);                  \
    template void layer_weight_gradient<T>(MatrixView<const T>, MatrixView<const T>,   \
                                           T*, bool, MatrixView<T>, T,                 \
                                           const Progress*, T*);                       \
    template void layer_backward<T>(MatrixView<const T>, MatrixView<const T>,          \
                                    const T*, MatrixView<T>, T*, T*, const Progress*); \
    template void gradient_descent<T>(MatrixView<T>, MatrixView<const T>, T);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
