#include "plan.h"

#include <algorithm>

#include "dispatch.h"

namespace siglin {

NetworkPlan::NetworkPlan(const std::vector<index_t>& sizes,
                         const std::vector<Activation>& activations,
                         const std::vector<bool>& biases, LossChoice loss_)
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

double NetworkPlan::multiply_adds_per_row(bool sparse) const {
    double total = 0;
    for (const RowLayer& layer : layers) {
        const index_t n_in = sparse && &layer == layers.data() ? 0 : layer.n_in;
        total += 3.0 * static_cast<double>(n_in) * static_cast<double>(layer.n_out) +
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
    const bool linear = layers[0].activation == Activation::identity;
    return layers.size() == 1 && n_out() == 1 && loss.kind != Loss::cross_entropy &&
           (linear || from_logits(loss.kind));
}

bool NetworkPlan::is_neuron_by_columns(index_t rows) const {
    // While that copy stays in L2; beyond, reading x as it lies is faster.
    constexpr index_t kMostElements = 32 * 1024;
    return is_neuron() && loss.kind == Loss::bce && n_in() <= kNeuronInputs &&
           rows <= kMostElements / n_in();
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
    return rows >= kLeastRows &&
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

}  // namespace siglin
