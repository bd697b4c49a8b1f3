#include "row_order.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>

#include "random.h"

namespace siglin {

void fill_order(const RowSubset& subset, index_t* order, index_t rows) {
    if (subset.rows == nullptr) {
        std::iota(order, order + rows, index_t{0});
    } else {
        std::copy_n(subset.rows, rows, order);
    }
}

void shuffle_rows(std::uint64_t* generator, index_t* order, index_t rows,
                  InterruptPoll& poll) {
    constexpr index_t kPiece = 1 << 16;
    constexpr double kWork = 500;  // of a swap far away, 10 ns
    for (index_t left = rows; left > 1; left -= kPiece) {
        Generator(generator).shuffle(order, left, std::max<index_t>(left - kPiece, 1));
        poll.charge(kWork * static_cast<double>(std::min(left, kPiece)));
    }
}

void check_order(const index_t* order, index_t rows) {
    for (index_t i = 0; i < rows; ++i) {
        if (order[i] < 0 || order[i] >= rows) {
            throw std::invalid_argument("fit: order[" + std::to_string(i) + "] is " +
                                        std::to_string(order[i]) + ", of " +
                                        std::to_string(rows) + " rows");
        }
    }
}

}  // namespace siglin
