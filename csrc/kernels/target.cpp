// One target: the kernels compiled for SIGLIN_TARGET, and the table that offers them.
// Everything else has internal linkage: the same inline function compiled for two
// targets would be one weak symbol, and the linker might keep the AVX-512 one for every
// CPU.
#include "../kernel_table.h"
#include "activation.h"
#include "columns.h"
#include "cross_entropy.h"
#include "descent.h"
#include "dropout.h"
#include "gemm.h"
#include "layer.h"
#include "loss.h"
#include "neuron.h"
#include "neuron_rows.h"
#include "penalty.h"
#include "row.h"
#include "sparse.h"
#include "update.h"

#define SIGLIN_STRING_(name) #name
#define SIGLIN_STRING(name) SIGLIN_STRING_(name)

namespace siglin::SIGLIN_TARGET {
namespace {

template <class T>
constexpr Kernels<T> kernels() {
    return {
#define SIGLIN_OP(result, name, parameters) name<T>,
#include "../ops.inc"
#undef SIGLIN_OP
        kTileRows,
        kTileCols<T>,
    };
}

constexpr std::size_t workspace_bytes() {
    constexpr index_t f32 = (kPackedA<float> + kPackedB<float>)*4;
    constexpr index_t f64 = (kPackedA<double> + kPackedB<double>)*8;
    return static_cast<std::size_t>(f32 > f64 ? f32 : f64);
}

constexpr KernelTable kTable = {SIGLIN_STRING(SIGLIN_TARGET), workspace_bytes(),
                                kernels<float>(), kernels<double>()};

}  // namespace

const KernelTable& kernel_table() { return kTable; }

}  // namespace siglin::SIGLIN_TARGET
