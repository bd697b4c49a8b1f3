// Seeded numbers over a state that Python owns.
#include "../random.h"

#include <algorithm>

#include "../float_environment.h"
#include "array.h"
#include "interrupt.h"
#include "module.h"
#include "parameters.h"

namespace siglin {
namespace {

using State = py::array_t<std::uint64_t, py::array::c_style>;

index_t checked_count(const char* function, index_t n) {
    if (n < 0) {
        throw py::value_error(std::string(function) + ": n must be >= 0, got " +
                              std::to_string(n));
    }
    return n;
}

template <class Draw>
void fill(const char* function, const py::object& state, const py::object& out,
          Draw draw) {
    Generator generator(generator_words(function, state));
    const Argument target = argument(function, "out", out);
    check_vector(target, kAny);
    check_writable(target);
    dispatch_dtype(target.dtype, [&](auto tag) {
        using T = decltype(tag);
        constexpr index_t kTogether = 1 << 16;
        constexpr double kWork = 100;  // of one number, a few nanoseconds, and memory
        T* to = mutable_vector_data<T>(target);
        const index_t n = target.extent(0);
        run_interruptibly(
            kWork * static_cast<double>(n), [&](const Progress* progress) {
                for (index_t begin = 0; begin < n; begin += kTogether) {
                    const index_t end = std::min(n, begin + kTogether);
                    for (index_t i = begin; i < end; ++i) {
                        to[i] = static_cast<T>(draw(generator));
                    }
                    if (progress != nullptr) {
                        (*progress)(kWork* static_cast<double>(end - begin));
                    }
                }
            });
    });
}

State seed_generator(std::uint64_t seed) {
    std::uint64_t words[4];
    for (std::uint64_t& word : words) {
        word = split_mix(seed);
    }
    return new_owned_words(words);
}

State copy_generator(const py::object& state) {
    return new_owned_words(generator_words("copy_generator", state));
}

State random_bits(const py::object& state, index_t n) {
    Generator generator(generator_words("random_bits", state));
    State out(checked_count("random_bits", n));
    for (index_t i = 0; i < n; ++i) {
        out.mutable_at(i) = generator.next();
    }
    return out;
}

py::array_t<std::int64_t> permutation(const py::object& state, index_t n) {
    Generator generator(generator_words("permutation", state));
    py::array_t<std::int64_t> out(checked_count("permutation", n));
    std::iota(out.mutable_data(), out.mutable_data() + n, std::int64_t{0});
    generator.shuffle(out.mutable_data(), n);
    return out;
}

void fill_uniform(const py::object& state, const py::object& out, double bound) {
    fill("fill_uniform", state, out,
         [bound](Generator& g) { return (2.0 * g.uniform() - 1.0) * bound; });
}

void fill_normal(const py::object& state, const py::object& out) {
    fill("fill_normal", state, out, [](Generator& g) { return g.normal(); });
}

// The bound of init_weights' uniform numbers (_layers.py). Not in Python, which would
// round it as its caller does.
double init_bound(const std::string& init, double gain, double n_in, double n_out) {
    if (init == "glorot") {
        return gain * std::sqrt(6.0 / (n_in + n_out));
    }
    if (init == "he" || init == "lecun") {
        return std::sqrt(3.0 * ((init == "he" ? 2.0 : 1.0) / n_in));
    }
    throw py::value_error("init_bound: init must be glorot, he or lecun, got " + init);
}

}  // namespace

void bind_random(py::module_& m) {
    const auto state = py::arg("state");
    const auto environment = py::call_guard<KeepSubnormals>();
    m.def("seed_generator", &seed_generator, py::arg("seed"), environment);
    m.def("copy_generator", &copy_generator, state, environment);
    m.def("random_bits", &random_bits, state, py::arg("n"), environment);
    m.def("permutation", &permutation, state, py::arg("n"), environment);
    m.def("init_bound", &init_bound, py::arg("init"), py::arg("gain"), py::arg("n_in"),
          py::arg("n_out"), environment);
    m.def("fill_uniform", &fill_uniform, state, py::arg("out"), py::arg("bound"),
          environment);
    m.def("fill_normal", &fill_normal, state, py::arg("out"), environment);
}

}  // namespace siglin
