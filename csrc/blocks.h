// The executor: the one place that shares blocks of rows among the threads, adds their
// sums in a fixed order, and tells of what is done in between, where Ctrl-C is looked
// for.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "dispatch.h"
#include "parallel.h"
#include "progress.h"
#include "view.h"

namespace siglin {

// Between two calls of progress: 10 ms of one core, in multiply-adds.
inline constexpr double kWaveWork = 5e8;

// run(i) for all `count` blocks, shared among the threads, in waves of some
// milliseconds with a call of progress after each. each: the work of a block, in
// multiply-adds.
template <class Run>
void for_waves(index_t count, double each, const Progress& progress, const Run& run) {
    const auto wave = static_cast<index_t>(
        std::clamp(num_threads() * kWaveWork / each, 1.0, static_cast<double>(count)));
    for (index_t begin = 0; begin < count; begin += wave) {
        const index_t n = std::min(wave, count - begin);
        const double work = each * static_cast<double>(n);
        parallel_for(n, work, [&](index_t i) { run(begin + i); });
        progress(work);
    }
}

inline double area(index_t rows, index_t cols) {
    return static_cast<double>(rows) * static_cast<double>(cols);
}

// A block of rows that is worth handing over, in multiply-adds.
inline constexpr double kLeastWork = 2e5;

// Whether the rows of so much work, in multiply-adds, would be shared.
inline bool shares_rows(double work) {
    return num_threads() > 1 && work >= 2 * kLeastWork;
}

// What a thread does at most between two calls of Progress, in multiply-adds of
// float32: 8 ms of one core of a 2.6 GHz Zen 4, 50 of one without fused multiply-adds.
// (With 3e8 two threads wait for each other so often that 400 rows of 3000 x 3000 take
// 1.1 times as long where other work shares the machine.)
inline constexpr double kMostBetweenCalls = 5e8;

// The time of work, in that measure, on so many elements of memory: half a nanosecond
// for each float32, with what the system does for a page that is touched first.
template <class T>
double time_of(double multiply_adds, double elements) {
    return (multiply_adds + 30.0 * elements) * sizeof(T) / sizeof(float);
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

// Rows, cut into blocks of so many (the last may have fewer).
struct Blocks {
    index_t rows;
    index_t block;
    double multiply_adds_per_row;
    index_t slots;  // how many sums they are shared into, from shapes alone

    index_t count() const { return (rows + block - 1) / block; }
    index_t rows_from(index_t begin) const { return std::min(block, rows - begin); }
    double work() const { return static_cast<double>(block) * multiply_adds_per_row; }
};

// The sums of losses and gradients over blocks.
template <class T>
class BlockSums {
  public:
    // For at most one block.
    BlockSums() = default;
    // slots: of any sum, at most.
    BlockSums(index_t slots, index_t n_params)
        : slots_(slots),
          n_params_(n_params),
          grads_(slots * n_params),
          losses_(static_cast<std::size_t>(slots)) {}

    // The sum of block_loss(begin, rows, sums, accumulate) over all blocks, shared
    // among the threads; grads (or null) gets the sum of their gradients. Slot s sums
    // the blocks from s * blocks / slots on, in order; then the slots are added in
    // order.
    template <class BlockLoss>
    double sum(const Blocks& blocks, T* grads, const Progress& progress,
               const BlockLoss& block_loss) {
        const index_t count = blocks.count();
        const index_t slots = blocks.slots;
        if (count == 1) {
            progress(static_cast<double>(blocks.rows) * blocks.multiply_adds_per_row);
            return block_loss(index_t{0}, blocks.rows, grads, false);
        }
        SIGLIN_ASSERT(slots <= slots_);
        std::fill_n(losses_.begin(), slots, 0.0);
        // Some blocks of every slot, then the next: all threads have work, and progress
        // comes every few milliseconds.
        const double each = blocks.work();
        const double together =
            kWaveWork * num_threads() / (each * static_cast<double>(slots));
        const index_t longest = (count + slots - 1) / slots;
        const auto some = static_cast<index_t>(
            std::clamp(together, 1.0, static_cast<double>(longest)));
        for (index_t done = 0; done < longest; done += some) {
            const double work = each * static_cast<double>(slots * some);
            parallel_for(slots, work, [&](index_t slot) {
                T* sums = grads == nullptr ? grads : grads_.data() + slot * n_params_;
                const index_t first = slot * count / slots;
                const index_t last = (slot + 1) * count / slots;
                for (index_t i = first + done; i < std::min(last, first + done + some);
                     ++i) {
                    const index_t begin = i * blocks.block;
                    losses_[static_cast<std::size_t>(slot)] +=
                        block_loss(begin, blocks.rows_from(begin), sums, i > first);
                }
            });
            progress(work);
        }
        return add_slots(slots, grads);
    }

  private:
    double add_slots(index_t slots, T* grads) const {
        double total = 0;
        for (index_t slot = 0; slot < slots; ++slot) {
            total += losses_[static_cast<std::size_t>(slot)];
            if (grads == nullptr) {
                continue;
            }
            const T* sums = grads_.data() + slot * n_params_;
            if (slot == 0) {
                std::copy_n(sums, n_params_, grads);
            } else {
                kernel_table().kernels<T>().add_to(sums, grads, n_params_);
            }
        }
        return total;
    }

    index_t slots_ = 0;
    index_t n_params_ = 0;
    Buffer<T> grads_;
    std::vector<double> losses_;
};

}  // namespace siglin
