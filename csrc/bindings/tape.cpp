// A loop written by hand: forward, which keeps what backward needs.
#include "../tape.h"

#include <pybind11/stl.h>

#include "../buffer.h"
#include "../float_environment.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {
namespace {

// What `backward` and `backward_from` are given of a forward pass, checked. The
// gradients belong to this one call until it is gone.
struct Tape {
    Tape(const Network& net_, const char* function, const py::object& params_,
         const py::object& grads_, const py::object& x_, const py::list& hidden_,
         const py::object& z_)
        : net(net_),
          writing(function, params_, Writing::What::gradients),
          params(net.checked_vector(function, "params", writing.array())),
          grads(net.checked_vector(function, "grads", grads_)),
          x(net.checked_x(function, x_, params)),
          z(net.checked(function, "z", z_)) {
        check_writable(grads);
        check_matrix(z, x.rows(), net.plan().n_out());
        check_no_overlap(grads, params);
        check_no_overlap(grads, x);
        const auto count = net.plan().layers.size() - 1;
        if (py::len(hidden_) != count) {
            throw ShapeError(std::string(function) + ": hidden must have " +
                             std::to_string(count) + " pairs");
        }
        for (std::size_t l = 0; l < count; ++l) {
            const auto pair = hidden_[l].cast<std::pair<py::object, py::object>>();
            const index_t cols = net.plan().layers[l].n_out;
            hidden.emplace_back(net.checked(function, "a", pair.first),
                                net.checked(function, "derivative", pair.second));
            for (const Argument* each : {&hidden[l].first, &hidden[l].second}) {
                check_matrix(*each, x.rows(), cols);
                check_no_overlap(grads, *each);
            }
        }
    }

    // Fills the gradients, and dx if it has data, from fill(dz, progress) of the
    // last layer.
    template <class T, class Fill>
    void go_back(MatrixView<T> dx, const Fill& fill) const {
        std::vector<TapedLayer<T>> tape;
        for (const auto& [a, d] : hidden) {
            tape.push_back({mutable_view<T>(a), mutable_view<T>(d)});
        }
        const T* p = vector_data<T>(params);
        T* g = mutable_vector_data<T>(grads);
        const auto from = view<T>(x);
        interruptible(net.work(x.rows()), [&](const Progress& progress) {
            const Buffer<T> dz(x.rows() * net.plan().n_out());
            fill(dz.data(), progress);
            tape_backward<T>(net.plan(), p, g, from, tape, dz.data(), dx, progress);
        });
    }

    const Network& net;
    Writing writing;
    Argument params;
    Argument grads;
    Argument x;
    Argument z;
    std::vector<std::pair<Argument, Argument>> hidden;
};

}  // namespace

// A hand-written loop: the outputs for x, and what `backward` needs of this pass,
// the outputs and derivatives of each hidden layer, and z of the last.
py::tuple Network::forward(const py::object& params_, const py::object& x_) const {
    const Reading reading(params_);
    const Argument params = checked_vector("forward", "params", reading.array());
    const Argument x = checked_x("forward", x_, params);
    std::vector<Result> a;
    std::vector<Result> d;
    for (std::size_t l = 0; l + 1 < plan_.layers.size(); ++l) {
        a.push_back(new_matrix(x, x.rows(), plan_.layers[l].n_out));
        d.push_back(new_matrix(x, x.rows(), plan_.layers[l].n_out));
    }
    const Result z = new_matrix(x, x.rows(), plan_.n_out());
    const Result out = new_matrix(x, x.rows(), plan_.n_out());
    dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const T* p = vector_data<T>(params);
        const auto from = view<T>(x);
        std::vector<TapedLayer<T>> tape;
        for (std::size_t l = 0; l < a.size(); ++l) {
            tape.push_back({mutable_view<T>(a[l]), mutable_view<T>(d[l])});
        }
        const auto logits = mutable_view<T>(z);
        const auto to = mutable_view<T>(out);
        interruptible(work(x.rows()), [&](const Progress& progress) {
            tape_forward<T>(plan_, p, from, tape, logits, to, progress);
        });
    });
    py::list hidden;
    for (std::size_t l = 0; l < a.size(); ++l) {
        hidden.append(py::make_tuple(a[l].owner, d[l].owner));
    }
    return py::make_tuple(out.owner, hidden, z.owner);
}

// The loss of the pass that left hidden and z, for targets t; grads gets its
// gradient.
double Network::backward(const py::object& params_, const py::object& grads_,
                         const py::object& x_, const py::list& hidden,
                         const py::object& z_, const py::object& t_) const {
    const Tape tape(*this, "backward", params_, grads_, x_, hidden, z_);
    const Argument t = checked_t("backward", t_, tape.x);
    return dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const auto targets = view<T>(t);
        const auto z = view<T>(tape.z);
        double loss = 0;
        tape.go_back<T>({}, [&](T* dz, const Progress& progress) {
            loss = output_loss<T>(plan_, z, targets, dz, progress);
        });
        return loss;
    });
}

// grads from da, the gradient by the outputs of that pass; returns that by x.
py::object Network::backward_from(const py::object& params_, const py::object& grads_,
                                  const py::object& x_, const py::list& hidden,
                                  const py::object& z_, const py::object& da_) const {
    const Tape tape(*this, "backward_from", params_, grads_, x_, hidden, z_);
    const Argument da = argument("backward_from", "da", da_, tape.z);
    check_matrix(da, tape.z.rows(), tape.z.cols());
    Result dx = new_matrix(tape.x, tape.x.rows(), tape.x.cols());
    dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const auto upstream = view<T>(da);
        const auto z = view<T>(tape.z);
        tape.go_back<T>(mutable_view<T>(dx), [&](T* dz, const Progress& progress) {
            output_backward<T>(plan_, z, upstream, dz, progress);
        });
    });
    return std::move(dx.owner);
}

void bind_tape(NetworkClass& network) {
    using py::arg;
    // Gradients count subnormal numbers as 0: saturated units would take many times as
    // long. Of forward the hidden layers alone do.
    const auto flushing = py::call_guard<FlushSubnormals>();
    network
        .def("forward", &Network::forward, arg("params"), arg("x"),
             py::call_guard<KeepSubnormals>())
        .def("backward", &Network::backward, arg("params"), arg("grads"), arg("x"),
             arg("hidden"), arg("z"), arg("t"), flushing)
        .def("backward_from", &Network::backward_from, arg("params"), arg("grads"),
             arg("x"), arg("hidden"), arg("z"), arg("da"), flushing);
}

}  // namespace siglin
