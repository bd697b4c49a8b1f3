// The order in which a fit takes its rows.
#pragma once

#include <cstdint>

#include "progress.h"
#include "view.h"

namespace siglin {

// Some rows of x and t, in this order, each as often as it stands here; null: all, as
// they lie. A fit has the bits that it has on a copy of them.
struct RowSubset {
    const index_t* rows = nullptr;
    index_t count = 0;
};

// The rows of an epoch, in the order in which they were given.
void fill_order(const RowSubset& subset, index_t* order, index_t rows);

// Shuffles an epoch's rows, with a look for Ctrl-C now and then.
void shuffle_rows(std::uint64_t* generator, index_t* order, index_t rows,
                  InterruptPoll& poll);

// Throws std::invalid_argument unless every entry is the number of a row.
void check_order(const index_t* order, index_t rows);

}  // namespace siglin
