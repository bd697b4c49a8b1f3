// Checks the kernels of one target against plain loops, without Python: for targets
// that this machine only emulates. Built with SIGLIN_TARGET; prints "N passed, M
// failed".
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "kernel_table.h"

namespace {

using namespace siglin;

int passed = 0;
int failed = 0;

void expect(bool ok, const char* what, long a = 0, long b = 0, long c = 0) {
    (ok ? passed : failed) += 1;
    if (!ok) {
        std::printf("FAILED %s (%ld, %ld, %ld)\n", what, a, b, c);
    }
}

template <class T>
bool close(T got, double exact, double scale, double units) {
    if (std::isnan(exact)) {
        return std::isnan(got);
    }
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon());
    return std::fabs(static_cast<double>(got) - exact) <= units * unit * scale;
}

// Numbers in [-1, 1) from a counter: the same everywhere.
double number() {
    static unsigned long long state = 1;
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<double>(static_cast<long long>(state) >> 11) * 0x1p-52;
}

template <class T>
std::vector<T> numbers(index_t n) {
    std::vector<T> v(static_cast<std::size_t>(n) +
                     1);  // data() is not null where n is 0
    for (T& x : v) {
        x = static_cast<T>(number());
    }
    return v;
}

double sigma(double z) {
    const double e = std::exp(-std::fabs(z));
    return (z < 0 ? e : 1.0) / (1.0 + e);
}

struct Point {
    double value;
    double derivative;
};

Point exact(Activation f, double z) {
    switch (f) {
        case Activation::identity:
            return {z, 1};
        case Activation::sigmoid:
            return {sigma(z), sigma(z) * sigma(-z)};
        case Activation::tanh:
            return {std::tanh(z), 4 * sigma(2 * z) * sigma(-2 * z)};
        case Activation::relu:
            return {std::fmax(z, 0), z > 0 ? 1.0 : 0.0};
        case Activation::leaky_relu:
            return {z > 0 ? z : 0.1 * z, z > 0 ? 1.0 : 0.1};
        case Activation::step:
            return {z > 0 ? 1.0 : 0.0, 0};
    }
    return {};
}

constexpr Activation kActivations[] = {
#define SIGLIN_ACTIVATION(name, largest, steepest) Activation::name,
#include "activations.inc"
};

template <class T>
void check_activations(const Kernels<T>& kernels) {
    for (const Activation f : kActivations) {
        for (index_t n = 0; n <= 40; ++n) {
            std::vector<T> z = numbers<T>(n);
            for (index_t i = 0; i < n; ++i) {
                z[i] *= static_cast<T>(i % 3 == 0 ? 60 : 3);
            }
            std::vector<T> a(z.size(), T(7));
            std::vector<T> d(z.size(), T(7));
            kernels.activate(f, z.data(), a.data(), d.data(), n);
            bool ok = a[n] == T(7) && d[n] == T(7);  // nothing past the end
            for (index_t i = 0; i < n; ++i) {
                const Point p = exact(f, static_cast<double>(z[i]));
                const double least = static_cast<double>(std::numeric_limits<T>::min());
                ok = ok &&
                     close(a[i], p.value, std::fmax(std::fabs(p.value), least), 4) &&
                     close(d[i], p.derivative, std::fmax(p.derivative, least), 8);
            }
            expect(ok, "activate", static_cast<long>(f), n);
            std::vector<T> from_a = a;
            kernels.derivative_from_a(f, a.data(), from_a.data(), n);
            ok = true;
            for (index_t i = 0; i < n; ++i) {
                ok = ok && close(from_a[i], static_cast<double>(d[i]), 1, 8);
            }
            expect(ok, "derivative_from_a", static_cast<long>(f), n);
        }
    }
    const T inf = std::numeric_limits<T>::infinity();
    T special[] = {inf, -inf, -T(0), std::numeric_limits<T>::quiet_NaN()};
    kernels.activate(Activation::sigmoid, special, special, nullptr, 4);
    expect(special[0] == 1 && special[1] == 0 && special[2] == T(0.5) &&
               std::isnan(special[3]),
           "sigmoid of special values");
}

// The right operand b (k, n), or its transpose, as pack_panels leaves it; packed in two
// calls, as two threads would.
template <class T>
std::vector<T> packed(const Kernels<T>& kernels, const T* b, index_t step,
                      bool transposed, index_t k, index_t n) {
    const index_t panels = (n + kernels.tile_cols - 1) / kernels.tile_cols;
    std::vector<T> to(static_cast<std::size_t>(panels * kernels.tile_cols * k) + 1);
    for (const bool first : {true, false}) {
        const index_t begin = first ? 0 : panels / 2;
        const index_t end = first ? panels / 2 : panels;
        kernels.pack_panels({b, step, transposed, k, n, begin, end, to.data()});
    }
    return to;
}

// Packed weights: the way back, their transpose, and a descent in two pieces of each
// block of depth; after holds w after it. (The last elements of w are no weights.)
template <class T>
void check_packed_weights(const Kernels<T>& kernels, MatrixView<const T> x,
                          MatrixView<const T> dz, const std::vector<T>& w,
                          const std::vector<T>& after, T* workspace) {
    const index_t k = x.cols;
    const index_t n = dz.cols;
    const index_t padded =
        (n + kernels.tile_cols - 1) / kernels.tile_cols * kernels.tile_cols;
    auto panels = packed(kernels, w.data(), n, false, k, n);
    std::vector<T> back(w.size(), T(7));
    kernels.unpack_panels({panels.data(), k, n, back.data()});
    expect(std::equal(back.begin(), back.begin() + k * n, w.begin()), "unpacked", k, n);

    const auto expected = packed(kernels, w.data(), n, true, n, k);
    std::vector<T> transposed(expected.size());
    const index_t count = (k + kernels.tile_cols - 1) / kernels.tile_cols;
    kernels.transpose_panels(
        {panels.data(), k, n, count / 3, count, transposed.data()});
    kernels.transpose_panels({panels.data(), k, n, 0, count / 3, transposed.data()});
    expect(transposed == expected, "packed, transposed", k, n);

    std::vector<T> sums(static_cast<std::size_t>(k * n));
    for (index_t d = 0; d < depth_blocks(k); ++d) {
        const index_t first = depth_begin(k, d);
        const index_t last = depth_begin(k, d + 1);
        const index_t tiles = (last - first) / kernels.tile_rows / 2;
        const index_t middle = first + tiles * kernels.tile_rows;
        for (const auto& [begin, end] :
             {std::pair{first, middle}, std::pair{middle, last}}) {
            kernels.weight_gradient(
                {{x.data + begin, x.rows, end - begin, x.stride},
                 dz,
                 sums.data() + begin * n,
                 false,
                 workspace,
                 nullptr,
                 panels.data() + first * padded + (begin - first) * kernels.tile_cols,
                 T(0.5),
                 kernels.tile_cols,
                 (last - first) * kernels.tile_cols});
        }
    }
    kernels.unpack_panels({panels.data(), k, n, back.data()});
    expect(std::equal(back.begin(), back.begin() + k * n, after.begin()),
           "descent, packed", k, n);
}

// A step on one row and the next row's product: one call, or two. The rows of w are
// whole vectors apart.
template <class T>
void check_step_and_forward(const Kernels<T>& kernels, T* workspace, index_t k,
                            index_t n) {
    constexpr index_t kLine = 64 / sizeof(T);
    const index_t stride = (n + kLine - 1) / kLine * kLine;
    const auto x = numbers<T>(k);
    const auto next = numbers<T>(k);
    const auto dz = numbers<T>(n);
    const auto b = numbers<T>(n);
    std::vector<T> w(static_cast<std::size_t>(k * stride));
    const auto values = numbers<T>(k * n);
    for (index_t i = 0; i < k; ++i) {
        std::copy_n(values.begin() + i * n, n, w.begin() + i * stride);
    }
    for (const T* bias : {static_cast<const T*>(nullptr), b.data()}) {
        std::vector<T> one = w;
        std::vector<T> two = w;
        std::vector<T> z(static_cast<std::size_t>(n) + 1, T(7));
        std::vector<T> expected = z;
        kernels.step_and_forward({x.data(), dz.data(), T(0.3), one.data(), stride, k, n,
                                  next.data(), bias, z.data()});
        kernels.weight_gradient({{x.data(), 1, k, k},
                                 {dz.data(), 1, n, n},
                                 nullptr,
                                 false,
                                 workspace,
                                 nullptr,
                                 two.data(),
                                 T(0.3),
                                 stride});
        kernels.forward({{next.data(), 1, k, k},
                         {two.data(), k, n, stride},
                         bias,
                         Activation::identity,
                         {expected.data(), 1, n, n},
                         {nullptr, 1, n, n},
                         workspace});
        expect(one == two && z == expected, "step and forward", k, n);
    }
}

template <class T>
void check_layer(const Kernels<T>& kernels, T* workspace, index_t m, index_t k,
                 index_t n) {
    const auto x = numbers<T>(m * k);
    const auto w = numbers<T>(k * n);
    const auto b = numbers<T>(n);
    const auto dz = numbers<T>(m * n);
    const auto factor = numbers<T>(m * k);
    const double units = 4 + static_cast<double>(k + m + n);
    std::vector<T> a(static_cast<std::size_t>(m * n) + 1, T(7));
    std::vector<T> d = a;
    kernels.forward({{x.data(), m, k, k},
                     {w.data(), k, n, n},
                     b.data(),
                     Activation::sigmoid,
                     {a.data(), m, n, n},
                     {d.data(), m, n, n},
                     workspace});
    bool ok = a[m * n] == T(7) && d[m * n] == T(7);
    for (index_t i = 0; i < m; ++i) {
        for (index_t j = 0; j < n; ++j) {
            double z = static_cast<double>(b[j]);
            for (index_t p = 0; p < k; ++p) {
                z += static_cast<double>(x[i * k + p]) *
                     static_cast<double>(w[p * n + j]);
            }
            ok = ok && close(a[i * n + j], sigma(z), 1, units);
        }
    }
    expect(ok, "forward", m, k, n);
    if (k > 0) {
        const auto panels = packed(kernels, w.data(), n, false, k, n);
        std::vector<T> again = a;
        kernels.forward({{x.data(), m, k, k},
                         {w.data(), k, n, n},
                         b.data(),
                         Activation::sigmoid,
                         {again.data(), m, n, n},
                         {nullptr, m, n, n},
                         workspace,
                         panels.data()});
        expect(again == a, "forward, packed", m, k, n);
    }
    // A row alone has the bits it has in the batch.
    std::vector<T> row(static_cast<std::size_t>(n) + 1);
    for (index_t i = 0; i < m; i += 7) {
        kernels.forward({{x.data() + i * k, 1, k, k},
                         {w.data(), k, n, n},
                         b.data(),
                         Activation::sigmoid,
                         {row.data(), 1, n, n},
                         {nullptr, 1, n, n},
                         workspace});
        ok = true;
        for (index_t j = 0; j < n; ++j) {
            ok = ok && row[j] == a[i * n + j];
        }
        expect(ok, "row alone", m, k, n);
    }
    std::vector<T> dx(static_cast<std::size_t>(m * k) + 1, T(7));
    std::vector<T> dw(static_cast<std::size_t>(k * n) + 1, T(7));
    std::vector<T> db(static_cast<std::size_t>(n) + 1, T(7));
    for (const bool accumulate : {false, true}) {
        const auto panels = packed(kernels, dz.data(), n, false, m, n);
        // w -= 0.5 * (what dw becomes), with the same bits.
        std::vector<T> descended = w;
        std::vector<T> sums = dw;
        kernels.weight_gradient({{x.data(), m, k, k},
                                 {dz.data(), m, n, n},
                                 sums.data(),
                                 accumulate,
                                 workspace,
                                 accumulate && m > 0 ? panels.data() : nullptr,
                                 descended.data(),
                                 T(0.5)});
        kernels.input_gradient({{dz.data(), m, n, n},
                                {w.data(), k, n, n},
                                {dx.data(), m, k, k},
                                factor.data(),
                                workspace});
        kernels.weight_gradient({{x.data(), m, k, k},
                                 {dz.data(), m, n, n},
                                 dw.data(),
                                 accumulate,
                                 workspace});
        kernels.column_sums({dz.data(), m, n, n}, db.data(), accumulate);
        ok = true;
        for (index_t i = 0; i < k * n; ++i) {
            // Halving is exact, so one rounding or two come to the same.
            ok = ok && descended[i] == w[i] - T(0.5) * dw[i];
        }
        expect(ok, "descent", m, k, n);
        if (n > 0 && k > 0 && m > 0 && !accumulate) {
            check_packed_weights(kernels, {x.data(), m, k, k}, {dz.data(), m, n, n}, w,
                                 descended, workspace);
        }
        if (n > 0) {
            const auto transposed = packed(kernels, w.data(), n, true, n, k);
            std::vector<T> again = dx;
            kernels.input_gradient({{dz.data(), m, n, n},
                                    {w.data(), k, n, n},
                                    {again.data(), m, k, k},
                                    factor.data(),
                                    workspace,
                                    transposed.data()});
            expect(again == dx, "input gradient, packed", m, k, n);
        }
        const double times = accumulate ? 2 : 1;
        ok = dw[k * n] == T(7) && db[n] == T(7) && dx[m * k] == T(7);
        for (index_t p = 0; p < k; ++p) {
            for (index_t j = 0; j < n; ++j) {
                double sum = 0;
                for (index_t i = 0; i < m; ++i) {
                    sum += static_cast<double>(x[i * k + p]) *
                           static_cast<double>(dz[i * n + j]);
                }
                ok = ok && close(dw[p * n + j], times * sum, 1, times * units);
            }
        }
        for (index_t j = 0; j < n; ++j) {
            double sum = 0;
            for (index_t i = 0; i < m; ++i) {
                sum += static_cast<double>(dz[i * n + j]);
            }
            ok = ok && close(db[j], times * sum, 1, times * units);
        }
        for (index_t i = 0; i < m; ++i) {
            for (index_t p = 0; p < k; ++p) {
                double sum = 0;
                for (index_t j = 0; j < n; ++j) {
                    sum += static_cast<double>(dz[i * n + j]) *
                           static_cast<double>(w[p * n + j]);
                }
                ok =
                    ok && close(dx[i * k + p],
                                sum * static_cast<double>(factor[i * k + p]), 1, units);
            }
        }
        expect(ok, accumulate ? "backward, accumulated" : "backward", m, k, n);
    }
}

// A network of one layer: what row.h and neuron.h do at once, step by step in double.
template <class T>
void check_single_passes(const Kernels<T>& kernels, index_t rows, index_t n_in) {
    const auto x = numbers<T>(rows * n_in);
    const auto w = numbers<T>(n_in + 1);
    std::vector<T> t(static_cast<std::size_t>(rows));
    for (index_t r = 0; r < rows; ++r) {
        t[r] = T(r % 2);
    }
    const index_t stride =
        (rows + kNeuronLanes<T> - 1) / kNeuronLanes<T> * kNeuronLanes<T>;
    std::vector<T> columns(static_cast<std::size_t>(stride * n_in), T(0));
    std::vector<T> padded_t(static_cast<std::size_t>(stride), T(0));
    std::vector<double> grads(static_cast<std::size_t>(n_in) + 1);
    double loss = 0;
    for (index_t r = 0; r < rows; ++r) {
        double z = static_cast<double>(w[n_in]);
        for (index_t i = 0; i < n_in; ++i) {
            columns[i * stride + r] = x[r * n_in + i];
            z += static_cast<double>(x[r * n_in + i]) * static_cast<double>(w[i]);
        }
        padded_t[r] = t[r];
        loss += std::log1p(std::exp(t[r] > 0 ? -z : z));
        const double dz = sigma(z) - static_cast<double>(t[r]);
        for (index_t i = 0; i < n_in; ++i) {
            grads[i] += dz * static_cast<double>(x[r * n_in + i]);
        }
        grads[n_in] += dz;
    }
    std::vector<T> got(static_cast<std::size_t>(n_in) + 1);
    const double units = 8 + static_cast<double>(rows + n_in);
    const auto agrees = [&](double got_loss) {
        bool ok = std::fabs(got_loss - loss) <=
                  units * static_cast<double>(std::numeric_limits<T>::epsilon()) * loss;
        for (index_t i = 0; i <= n_in; ++i) {
            ok = ok && close(got[i], grads[i], 1, units);
        }
        return ok;
    };
    if (n_in > 0) {
        expect(agrees(kernels.neuron_loss_gradient(
                   {columns.data(), stride, padded_t.data(), rows, n_in, w.data(),
                    w.data() + n_in, got.data(), got.data() + n_in, T(1)})),
               "neuron_loss_gradient", rows, n_in);
        std::vector<index_t> backwards(static_cast<std::size_t>(rows));
        std::vector<T> reversed_x(x.size());
        std::vector<T> reversed_t(t.size());
        for (index_t r = 0; r < rows; ++r) {
            backwards[r] = rows - 1 - r;
            reversed_t[r] = t[rows - 1 - r];
            for (index_t i = 0; i < n_in; ++i) {
                reversed_x[r * n_in + i] = x[(rows - 1 - r) * n_in + i];
            }
        }
        NeuronRowsArgs<T> by_rows = {LossChoice{Loss::bce},
                                     {x.data(), rows, n_in, n_in},
                                     {t.data(), rows, 1, 1},
                                     nullptr,
                                     w.data(),
                                     w.data() + n_in,
                                     got.data(),
                                     got.data() + n_in,
                                     T(1),
                                     false};
        expect(agrees(kernels.neuron_rows_gradient(by_rows)), "neuron_rows_gradient",
               rows, n_in);
        const auto in_order = got;
        by_rows.x.data = reversed_x.data();
        by_rows.t.data = reversed_t.data();
        by_rows.order = backwards.data();
        kernels.neuron_rows_gradient(by_rows);
        expect(got == in_order, "neuron_rows_gradient, rows in an order", rows, n_in);
        by_rows.scale = T(2);
        by_rows.accumulate = true;
        kernels.neuron_rows_gradient(by_rows);
        bool threefold = true;
        for (index_t i = 0; i <= n_in; ++i) {
            threefold = threefold && close(got[i], 3 * grads[i], 3, units);
        }
        expect(threefold, "neuron_rows_gradient, accumulated", rows, n_in);
        // The gradient again, as what one step of length 1 changes; and the step's
        // loss.
        std::vector<T> param(n_in + 1, T(0));
        double losses[2] = {0, 0};
        for (index_t i = 0; i <= n_in; ++i) {
            param[i] = w[i];
        }
        NeuronArgs<T> batch = {columns.data(), stride,        padded_t.data(), rows,
                               n_in,           nullptr,       param.data(),    nullptr,
                               nullptr,        T(1) / T(rows)};
        const NeuronDescentResult done =
            kernels.neuron_descent({batch, param.data(), T(rows), 0, 1, losses});
        for (index_t i = 0; i <= n_in; ++i) {
            got[i] = w[i] - param[i];
        }
        expect(done.steps == 1 && agrees(losses[0] * static_cast<double>(rows)),
               "neuron_descent", rows, n_in);
        // Stops where the change is small, and before what is not finite.
        const NeuronDescentResult small =
            kernels.neuron_descent({batch, param.data(), T(1e-6), 1.0, 2, losses});
        expect(small.steps == 1 && small.small_step && !small.diverged,
               "neuron_descent, small step", rows, n_in);
        const auto kept = param;
        const NeuronDescentResult bad = kernels.neuron_descent(
            {batch, param.data(), std::numeric_limits<T>::infinity(), 0, 2, losses});
        expect(bad.steps == 0 && bad.diverged && param == kept,
               "neuron_descent, divergent step", rows, n_in);
    }
    if (rows == 1) {
        const RowLayer layer = {n_in, 1, Activation::sigmoid, 0, n_in};
        T scratch[2];
        expect(agrees(kernels.row_loss_gradient({&layer, 1, LossChoice{Loss::bce},
                                                 w.data(), got.data(), x.data(),
                                                 t.data(), scratch})),
               "row_loss_gradient", n_in);
    }
}

// Every row of a network of one hidden layer in turn, against plain loops in double.
template <class T>
void check_row_descent(const Kernels<T>& kernels, index_t n_in, index_t hidden,
                       index_t n_out) {
    const index_t rows = 5;
    const RowLayer layers[] = {{n_in, hidden, Activation::sigmoid, 0, n_in * hidden},
                               {hidden, n_out, Activation::sigmoid, (n_in + 1) * hidden,
                                (n_in + 1) * hidden + hidden * n_out}};
    const index_t n_params = (n_in + 1) * hidden + (hidden + 1) * n_out;
    auto params = numbers<T>(n_params);
    const auto x = numbers<T>(rows * n_in);
    std::vector<T> t(static_cast<std::size_t>(rows * n_out));
    std::vector<index_t> order(static_cast<std::size_t>(rows));
    for (index_t r = 0; r < rows; ++r) {
        order[r] = rows - 1 - r;
        for (index_t k = 0; k < n_out; ++k) {
            t[r * n_out + k] = T((r + k) % 2);
        }
    }
    std::vector<double> p(params.begin(), params.end());
    std::vector<double> exact_losses;
    const double lr = 0.5;
    for (const index_t r : order) {
        const auto weight = [&](int l, index_t i, index_t j) -> double& {
            return p[layers[l].w + i * layers[l].n_out + j];
        };
        std::vector<double> a(static_cast<std::size_t>(hidden));
        for (index_t j = 0; j < hidden; ++j) {
            double z = p[layers[0].b + j];
            for (index_t i = 0; i < n_in; ++i) {
                z += static_cast<double>(x[r * n_in + i]) * weight(0, i, j);
            }
            a[j] = sigma(z);
        }
        std::vector<double> da(a.size());
        double loss = 0;
        for (index_t k = 0; k < n_out; ++k) {
            double z = p[layers[1].b + k];
            for (index_t j = 0; j < hidden; ++j) {
                z += a[j] * weight(1, j, k);
            }
            const double target = static_cast<double>(t[r * n_out + k]);
            loss += std::log1p(std::exp(target > 0 ? -z : z));
            const double dz = sigma(z) - target;
            for (index_t j = 0; j < hidden; ++j) {
                da[j] += dz * weight(1, j, k);
                weight(1, j, k) -= lr * dz * a[j];
            }
            p[layers[1].b + k] -= lr * dz;
        }
        for (index_t j = 0; j < hidden; ++j) {
            const double dz = da[j] * a[j] * (1 - a[j]);
            for (index_t i = 0; i < n_in; ++i) {
                weight(0, i, j) -= lr * dz * static_cast<double>(x[r * n_in + i]);
            }
            p[layers[0].b + j] -= lr * dz;
        }
        exact_losses.push_back(loss);
    }
    constexpr std::size_t kAlign = 64 / sizeof(T);
    std::vector<T> scratch(
        static_cast<std::size_t>(descent_scratch<T>(layers, 2, rows)) + kAlign);
    T* aligned = scratch.data();
    while (reinterpret_cast<std::uintptr_t>(aligned) % 64 != 0) {
        ++aligned;
    }
    std::vector<double> losses(exact_losses.size());
    bool ok = kernels.row_descent({layers,
                                   2,
                                   LossChoice{Loss::bce},
                                   params.data(),
                                   T(lr),
                                   {x.data(), rows, n_in, n_in},
                                   {t.data(), rows, n_out, n_out},
                                   order.data(),
                                   rows,
                                   losses.data(),
                                   aligned});
    const double units = 40 + 4 * static_cast<double>(n_in + hidden + n_out);
    for (index_t i = 0; i < n_params; ++i) {
        ok = ok && close(params[i], p[i], 1, units);
    }
    for (index_t r = 0; r < rows; ++r) {
        ok = ok && close(static_cast<T>(losses[r]), exact_losses[r], 1, units);
    }
    expect(ok, "row_descent", n_in, hidden, n_out);
}

struct Wanted {
    double loss = 0;
    std::vector<double> grads;
};

// The summed loss and its gradient, row by row in double.
template <class T>
Wanted plain_network(const std::vector<RowLayer>& layers, Loss loss,
                     const std::vector<T>& params, const std::vector<T>& x,
                     const std::vector<T>& t, index_t rows) {
    Wanted wanted;
    wanted.grads.resize(params.size());
    for (index_t r = 0; r < rows; ++r) {
        std::vector<std::vector<double>> a(layers.size() + 1);
        std::vector<std::vector<double>> d(layers.size());
        for (index_t i = 0; i < layers[0].n_in; ++i) {
            a[0].push_back(static_cast<double>(x[r * layers[0].n_in + i]));
        }
        std::vector<double> dz;
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const RowLayer& layer = layers[l];
            for (index_t j = 0; j < layer.n_out; ++j) {
                double z =
                    layer.b >= 0 ? static_cast<double>(params[layer.b + j]) : 0.0;
                for (index_t i = 0; i < layer.n_in; ++i) {
                    z += a[l][i] *
                         static_cast<double>(params[layer.w + i * layer.n_out + j]);
                }
                const Point p = exact(layer.activation, z);
                a[l + 1].push_back(p.value);
                d[l].push_back(p.derivative);
                if (l + 1 == layers.size()) {
                    const double target = static_cast<double>(t[r * layer.n_out + j]);
                    const double off = p.value - target;
                    if (loss == Loss::bce) {
                        wanted.loss += std::fmax(z, 0) - target * z +
                                       std::log1p(std::exp(-std::fabs(z)));
                        dz.push_back(off);
                    } else {
                        wanted.loss += off * off / 2;
                        dz.push_back(off * p.derivative);
                    }
                }
            }
        }
        for (std::size_t l = layers.size(); l-- > 0;) {
            const RowLayer& layer = layers[l];
            std::vector<double> dx(static_cast<std::size_t>(layer.n_in));
            for (index_t i = 0; i < layer.n_in; ++i) {
                for (index_t j = 0; j < layer.n_out; ++j) {
                    const index_t at = layer.w + i * layer.n_out + j;
                    wanted.grads[at] += a[l][i] * dz[j];
                    dx[i] += dz[j] * static_cast<double>(params[at]);
                }
                if (l > 0) {
                    dx[i] *= d[l - 1][i];
                }
            }
            for (index_t j = 0; layer.b >= 0 && j < layer.n_out; ++j) {
                wanted.grads[layer.b + j] += dz[j];
            }
            dz = dx;
        }
    }
    return wanted;
}

template <class T>
void check_narrow(const Kernels<T>& kernels, const std::vector<index_t>& sizes,
                  Activation hidden, Activation output, Loss loss, bool bias,
                  index_t rows) {
    std::vector<RowLayer> layers;
    index_t n_params = 0;
    index_t widest = 0;
    for (std::size_t l = 0; l + 1 < sizes.size(); ++l) {
        const index_t w = n_params;
        const index_t b = w + sizes[l] * sizes[l + 1];
        n_params = b + (bias ? sizes[l + 1] : 0);
        layers.push_back({sizes[l], sizes[l + 1],
                          l + 2 == sizes.size() ? output : hidden, w, bias ? b : -1});
        widest = std::max(widest, sizes[l]);
    }
    const auto x = numbers<T>(rows * sizes.front());
    const auto params = numbers<T>(n_params);
    auto t = numbers<T>(rows * sizes.back());
    for (T& target : t) {
        target = loss == Loss::bce ? T(target > 0) : target;
    }
    const Wanted wanted = plain_network(layers, loss, params, x, t, rows);
    double scale = 1;
    for (const double g : wanted.grads) {
        scale = std::fmax(scale, std::fabs(g));
    }
    // The rows reversed, so that they have an order.
    std::vector<index_t> order;
    for (index_t r = rows; r-- > 0;) {
        order.push_back(r);
    }
    const index_t stride =
        (rows + kNarrowLanes<T> - 1) / kNarrowLanes<T> * kNarrowLanes<T>;
    const index_t count = static_cast<index_t>(layers.size());
    const std::size_t scratch_size =
        static_cast<std::size_t>(narrow_scratch<T>(layers.data(), count, stride));
    std::vector<T> scratch(scratch_size + 1, T(7));
    for (const bool reversed : {false, true}) {
        std::vector<T> columns_x(static_cast<std::size_t>(stride * sizes.front()),
                                 T(7));
        std::vector<T> columns_t(static_cast<std::size_t>(stride * sizes.back()), T(7));
        const index_t* rows_taken = reversed ? order.data() : nullptr;
        kernels.to_columns({{x.data(), rows, sizes.front(), sizes.front()},
                            rows_taken,
                            rows,
                            columns_x.data(),
                            stride});
        kernels.to_columns({{t.data(), rows, sizes.back(), sizes.back()},
                            rows_taken,
                            rows,
                            columns_t.data(),
                            stride});
        bool ok = true;
        for (index_t r = 0; r < stride; ++r) {
            for (index_t i = 0; i < sizes.front(); ++i) {
                const index_t from = reversed ? rows - 1 - r : r;
                ok = ok && columns_x[i * stride + r] ==
                               (r < rows ? x[from * sizes.front() + i] : T(0));
            }
        }
        expect(ok, "to_columns", rows, sizes.front(), reversed);
        std::vector<T> grads(static_cast<std::size_t>(n_params) + 1, T(7));
        for (const bool accumulate : {false, true}) {
            const double got = kernels.narrow_loss_gradient(
                {layers.data(), count, LossChoice{loss}, params.data(), grads.data(),
                 accumulate, columns_x.data(), columns_t.data(), stride, rows, T(1),
                 scratch.data()});
            const double times = accumulate ? 2 : 1;
            // As in check_layer, for every layer, in units of the largest gradient.
            const double units =
                times * static_cast<double>(count * (4 + rows + widest));
            ok = scratch[scratch_size] == T(7) && grads[n_params] == T(7) &&
                 std::fabs(got - wanted.loss) <=
                     units * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                         (1 + wanted.loss);
            for (index_t i = 0; i < n_params; ++i) {
                ok = ok && close(grads[i], times * wanted.grads[i], scale, units);
            }
            expect(ok, accumulate ? "narrow, accumulated" : "narrow_loss_gradient",
                   rows, sizes.front(), static_cast<long>(hidden));
        }
    }
}

// Rows in compressed sparse row form, one of them empty, against the products of the
// same rows as a matrix.
template <class T>
void check_sparse(const Kernels<T>& kernels, index_t rows, index_t n_in,
                  index_t n_out) {
    std::vector<T> values;
    std::vector<std::int32_t> columns;
    std::vector<std::int64_t> starts = {0};
    std::vector<double> dense(static_cast<std::size_t>(rows * n_in));
    for (index_t i = 0; i < rows; ++i) {
        for (index_t p = 0; i != 1 && p < 3 + i % 9; ++p) {
            const index_t column = i % 3 + 3 * p;
            values.push_back(static_cast<T>(number()));
            columns.push_back(static_cast<std::int32_t>(column));
            dense[static_cast<std::size_t>(i * n_in + column)] += values.back();
        }
        starts.push_back(static_cast<std::int64_t>(values.size()));
    }
    std::vector<index_t> order;
    for (index_t i = 0; i < rows; ++i) {
        order.push_back(rows - 1 - i);
    }
    const SparseView<T> x = {values.data(), columns.data(), starts.data()};
    const auto w = numbers<T>(n_in * n_out);
    const auto b = numbers<T>(n_out);
    const auto dz = numbers<T>(rows * n_out);
    for (const index_t* given : {static_cast<const index_t*>(nullptr),
                                 static_cast<const index_t*>(order.data())}) {
        const auto at = [&](index_t i, index_t column) {
            const index_t row = given == nullptr ? i : given[i];
            return dense[static_cast<std::size_t>(row * n_in + column)];
        };
        std::vector<T> z(static_cast<std::size_t>(rows * n_out + 1), T(77));
        kernels.sparse_forward(
            {x, given, rows, {w.data(), n_in, n_out, n_out}, b.data(), z.data()});
        expect(z.back() == T(77), "sparse_forward: the end", rows, n_in, n_out);
        for (index_t i = 0; i < rows; ++i) {
            for (index_t j = 0; j < n_out; ++j) {
                double sum = b[static_cast<std::size_t>(j)];
                for (index_t c = 0; c < n_in; ++c) {
                    sum += at(i, c) * w[static_cast<std::size_t>(c * n_out + j)];
                }
                expect(close(z[static_cast<std::size_t>(i * n_out + j)], sum, 12, 8),
                       "sparse_forward", i, j, n_out);
            }
        }
        const index_t begin = n_in / 3;
        const auto before = numbers<T>(n_in * n_out);
        std::vector<T> dw = before;
        kernels.sparse_weight_gradient(
            {x, given, rows, dz.data(), n_out, T(-0.5), begin, n_in, dw.data()});
        for (index_t c = 0; c < n_in; ++c) {
            for (index_t j = 0; j < n_out; ++j) {
                double sum = before[static_cast<std::size_t>(c * n_out + j)];
                for (index_t i = 0; c >= begin && i < rows; ++i) {
                    sum -= 0.5 * at(i, c) * dz[static_cast<std::size_t>(i * n_out + j)];
                }
                expect(close(dw[static_cast<std::size_t>(c * n_out + j)], sum,
                             static_cast<double>(rows), 8),
                       "sparse_weight_gradient", c, j, n_out);
            }
        }
    }
}

template <class T>
void check_updates(const Kernels<T>& kernels) {
    for (index_t n = 0; n <= 40; ++n) {
        auto addend = numbers<T>(n);
        auto sum = addend;
        kernels.add_to(addend.data(), sum.data(), n);
        bool doubled = sum[n] == addend[n];
        for (index_t i = 0; i < n; ++i) {
            doubled = doubled && sum[i] == 2 * addend[i];
        }
        expect(doubled, "add_to", n);
        const auto before = numbers<T>(n);
        auto grad = numbers<T>(n);
        std::vector<T> zero(static_cast<std::size_t>(n) + 1);
        using Step = double (*)(const UpdateArgs<T>&);
        const Step steps[] = {kernels.gd, kernels.momentum, kernels.nesterov,
                              kernels.adam};
        for (int s = 0; s < 4; ++s) {
            auto param = before;
            auto m = zero;
            auto v = zero;
            UpdateArgs<T> args = {};
            args.param = param.data();
            args.grad = grad.data();
            args.m = m.data();
            args.v = v.data();
            args.n = n;
            args.lr = T(0.1);
            args.beta1 = T(0.9);
            args.beta2 = T(0.999);
            args.eps = T(1e-8);
            args.want_norm = true;
            const double norm = steps[s](args);
            double exact_norm = 0;
            bool ok = param[n] == before[n];
            for (index_t i = 0; i < n; ++i) {
                const double g = static_cast<double>(grad[i]);
                const double change[] = {g, g, 1.9 * g,
                                         0.1 * g / (std::sqrt(0.001 * g * g) + 1e-8)};
                exact_norm += 0.01 * change[s] * change[s];
                const double now = static_cast<double>(before[i]) - 0.1 * change[s];
                ok = ok && close(param[i], now, 1, s == 3 ? 2000 : 8);
            }
            ok = ok && std::fabs(norm - exact_norm) <= 1e-3 * exact_norm;
            expect(ok, "optimiser step", s, n);
            auto twice = grad;
            for (T& g : twice) {
                g *= 2;
            }
            auto again = before;
            m = v = zero;
            args.param = again.data();
            args.grad = twice.data();
            args.m = m.data();
            args.v = v.data();
            args.factor = T(0.5);
            steps[s](args);
            expect(again == param, "step by gradients times a factor", s, n);
            args.factor = T(1);
            args.param = param.data();
            if (n > 0) {
                grad[n - 1] = std::numeric_limits<T>::infinity();
                args.grad = grad.data();
                const auto kept = param;
                expect(std::isnan(steps[s](args)) && param == kept, "divergent step", s,
                       n);
                grad[n - 1] = T(0.25);
            }
        }
        auto x = numbers<T>(n);
        expect(kernels.first_outside(x.data(), n, T(-2), T(2)) == -1, "first_outside",
               n);
        T largest = 0;
        for (index_t i = 0; i < n; ++i) {
            largest = std::max(largest, std::fabs(x[i]));
        }
        expect(kernels.largest_magnitude(x.data(), n) == largest, "largest_magnitude",
               n);
        for (index_t i = 0; i < n; ++i) {
            auto bad = x;
            bad[i] = -std::numeric_limits<T>::infinity();
            expect(kernels.largest_magnitude(bad.data(), n) == -bad[i],
                   "largest_magnitude, infinity", n, i);
            bad[i] = -std::numeric_limits<T>::quiet_NaN();
            expect(std::isnan(kernels.largest_magnitude(bad.data(), n)),
                   "largest_magnitude, NaN", n, i);
            expect(kernels.first_outside(bad.data(), n, T(-2), T(2)) == i,
                   "first_outside", n, i);
        }
    }
}

// exp, the poisson loss and the weighted losses, with and without clipping; penalties.
template <class T>
void check_weighted(const Kernels<T>& kernels, index_t rows, index_t cols) {
    const index_t n = rows * cols;
    auto wide = numbers<T>(n);
    for (T& z : wide) {
        z *= T(60);
    }
    auto a = wide;
    kernels.exponential(a.data(), n);
    bool ok = a[n] == wide[n];
    for (index_t i = 0; i < n; ++i) {
        const double e = std::exp(static_cast<double>(wide[i]));
        ok = ok && close(a[i], e, e, 8);
    }
    expect(ok, "exponential", n);

    const auto weights = numbers<T>(rows);
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (const Loss loss :
         {Loss::bce, Loss::squared_error, Loss::poisson, Loss::cross_entropy}) {
        for (const bool clips : {false, true}) {
            if (clips && (loss == Loss::squared_error || loss == Loss::poisson)) {
                continue;
            }
            // Logits so far out that half of the losses are clipped.
            auto z = numbers<T>(n);
            for (T& v : z) {
                v *= clips ? T(90) : T(3);
            }
            std::vector<T> t(static_cast<std::size_t>(n) + 1);
            for (index_t i = 0; i < n; ++i) {
                const index_t row = i / cols;
                t[i] = loss == Loss::cross_entropy ? T(i % cols == row % cols)
                                                   : T(i % 3 == 0);
            }
            const auto derivative = numbers<T>(n);
            const bool bent = loss == Loss::squared_error;
            double total = 0;
            std::vector<double> dz(static_cast<std::size_t>(n));
            const auto clipped = [&](double value) {
                return clips ? std::clamp(value, -std::log1p(-eps), -std::log(eps))
                             : value;
            };
            double scale = 1;
            for (index_t r = 0; r < rows; ++r) {
                const auto w = static_cast<double>(weights[r]);
                double denominator = 0;
                double highest = -1e300;
                for (index_t j = 0; j < cols; ++j) {
                    highest = std::max(highest, static_cast<double>(z[r * cols + j]));
                }
                for (index_t j = 0; j < cols; ++j) {
                    denominator +=
                        std::exp(static_cast<double>(z[r * cols + j]) - highest);
                }
                double of_row = 0;
                for (index_t i = r * cols; i < (r + 1) * cols; ++i) {
                    const auto v = static_cast<double>(z[i]);
                    const auto target = static_cast<double>(t[i]);
                    double each = 0;
                    if (loss == Loss::bce) {
                        each = clipped(std::max(v, 0.0) - target * v +
                                       std::log1p(std::exp(-std::fabs(v))));
                        dz[i] = sigma(v) - target;
                    } else if (bent) {
                        each = 0.5 * (v - target) * (v - target);
                        dz[i] = (v - target) * static_cast<double>(derivative[i]);
                    } else if (loss == Loss::poisson) {
                        each = std::exp(v) - target * v - target;
                        dz[i] = std::exp(v) - target;
                    } else {
                        each = -target * (v - highest - std::log(denominator));
                        dz[i] = std::exp(v - highest) / denominator - target;
                    }
                    of_row += each;
                    dz[i] *= 0.25 * w;
                }
                of_row = loss == Loss::cross_entropy ? clipped(of_row) : of_row;
                total += w * of_row;
                scale += std::fabs(w * of_row);
            }
            const double got = kernels.loss_gradient(
                {LossChoice{loss}, z.data(), bent ? derivative.data() : nullptr,
                 t.data(), rows, cols, T(0.25), true, weights.data(), clips});
            bool right = std::fabs(got - total) <= 64 * eps * scale * 30;
            for (index_t i = 0; i < n; ++i) {
                right = right && close(z[i], dz[i], 30, 16);
            }
            expect(right, clips ? "weighted loss, clipped" : "weighted loss",
                   static_cast<long>(loss), rows, cols);
        }
    }

    auto grad = numbers<T>(n);
    const auto before = grad;
    double squares = 0;
    double sizes = 0;
    for (index_t i = 0; i < n; ++i) {
        squares += static_cast<double>(wide[i]) * static_cast<double>(wide[i]);
        sizes += std::fabs(static_cast<double>(wide[i]));
    }
    const double got = kernels.penalise({wide.data(), grad.data(), n, T(0.25), T(0.5)});
    ok =
        std::fabs(got - 0.25 * sizes - 0.25 * squares) <= 1e3 * eps * (squares + sizes);
    ok = ok && grad[n] == before[n];
    for (index_t i = 0; i < n; ++i) {
        const double sign = wide[i] > 0 ? 0.25 : wide[i] < 0 ? -0.25 : 0.0;
        const auto w = static_cast<double>(wide[i]);
        ok = ok && close(grad[i], static_cast<double>(before[i]) + 0.5 * w + sign,
                         1 + std::fabs(w), 8);
    }
    expect(ok, "penalise", rows, cols);

    const index_t others = n / 3;
    auto stepped = wide;
    auto kept = before;
    PenaltyArgs<T> step = {stepped.data(), kept.data(), n - others, T(0.25), T(0.5)};
    step.param = stepped.data();
    step.lr = T(0.1);
    step.others = others;
    kernels.penalise(step);
    ok = kept == before && stepped[n] == wide[n];
    for (index_t i = 0; i < n; ++i) {
        const T g = i < n - others ? grad[i] : before[i];
        const auto w = static_cast<double>(wide[i]);
        ok = ok &&
             close(stepped[i], w - 0.1 * static_cast<double>(g), 1 + std::fabs(w), 8);
    }
    expect(ok, "penalised step", rows, cols);
}

template <class T>
void check(const KernelTable& table) {
    const Kernels<T>& kernels = table.kernels<T>();
    std::vector<unsigned char> space(table.workspace_bytes + 64);
    void* start = space.data();
    std::size_t size = space.size();
    T* workspace = static_cast<T*>(std::align(64, table.workspace_bytes, start, size));
    check_activations(kernels);
    check_updates(kernels);
    for (const index_t n_out : {1, 2, 3, 4, 7, 16, 33}) {
        check_sparse(kernels, 12, 40, n_out);
    }
    const index_t sizes[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 33};
    for (const index_t m : sizes) {
        for (const index_t k : sizes) {
            for (const index_t n : sizes) {
                check_layer(kernels, workspace, m, k, n);
            }
        }
    }
    for (const index_t k : {1, 5, 384, 385, 784}) {
        for (const index_t n : {1, 7, 16, 17, 31, 64, 100, 129, 300}) {
            check_step_and_forward(kernels, workspace, k, n);
        }
    }
    check_layer(kernels, workspace, 130, 500, 70);   // packed, two blocks of depth
    check_layer(kernels, workspace, 500, 30, 400);   // the same in the gradients
    check_layer(kernels, workspace, 1, 400, 150);    // one row, many columns
    check_layer(kernels, workspace, 205, 40, 1030);  // more than a block of columns
    for (const index_t rows : {1, 2, 15, 16, 17, 150}) {
        for (const index_t n_in : {1, 2, 4, 31, 64}) {
            check_single_passes(kernels, rows, n_in);
        }
    }
    for (const index_t rows : {1, 2, 8, 17, 300}) {
        for (const index_t cols : {1, 2, 7, 16, 19}) {
            check_weighted(kernels, rows, cols);
        }
    }
    for (const index_t n_in : {1, 2, 5, 33}) {
        for (const index_t hidden : {1, 3, 8, 17, 35}) {
            for (const index_t n_out : {1, 2, 16, 19}) {
                check_row_descent(kernels, n_in, hidden, n_out);
            }
        }
    }
    for (index_t rows = 1; rows <= 70; ++rows) {
        check_narrow(kernels, {4, 16, 1}, Activation::sigmoid, Activation::sigmoid,
                     Loss::bce, true, rows);
        check_narrow(kernels, {3, 5, 2, 7}, Activation::tanh, Activation::identity,
                     Loss::squared_error, rows % 2 == 0, rows);
    }
    for (const index_t rows : {1, 7, 8, 16, 31, 32, 33, 64, 97}) {
        check_narrow(kernels, {16, 64, 32, 3}, Activation::sigmoid, Activation::sigmoid,
                     Loss::bce, true, rows);
        check_narrow(kernels, {33, 17, 20, 19}, Activation::tanh, Activation::tanh,
                     Loss::squared_error, true, rows);
    }
    for (index_t n = 1; n <= 33; ++n) {
        check_narrow(kernels, {n, n % 5 + 1, n, 34 - n}, Activation::relu,
                     Activation::sigmoid, Loss::bce, n % 3 != 0, 150);
    }
    for (const Activation f : kActivations) {
        check_narrow(kernels, {5, 9, 4}, f, f, Loss::squared_error, true, 97);
    }
}

}  // namespace

int main() {
    const KernelTable& table = siglin::SIGLIN_TARGET::kernel_table();
    check<float>(table);
    check<double>(table);
    std::printf("target %s\n%d passed, %d failed\n", table.name, passed, failed);
    return failed == 0 ? 0 : 1;
}
