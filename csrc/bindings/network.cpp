// Whole networks: what they are, and the checks that all of their doors share.
#include "network.h"

#include <pybind11/stl.h>

#include <cmath>

#include "../float_environment.h"
#include "../learn.h"
#include "call.h"
#include "module.h"
#include "names.h"

namespace siglin {
namespace {

NetworkPlan make_plan(const std::vector<index_t>& sizes,
                      const std::vector<std::string>& activations,
                      const std::vector<bool>& biases, const std::string& loss_name,
                      double loss_number) {
    const char* function = "Network";
    const Loss loss = loss_from(function, loss_name);
    if (sizes.size() < 2 || activations.size() + 1 != sizes.size() ||
        biases.size() != activations.size()) {
        throw py::value_error(
            "Network: needs at least two sizes, and an activation and a bias flag for "
            "each "
            "layer between them");
    }
    index_t total = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] < 1) {
            throw py::value_error("Network: sizes[" + std::to_string(i) +
                                  "] must be >= 1, got " + std::to_string(sizes[i]));
        }
        index_t weights = 0;
        if (i > 0 && (__builtin_mul_overflow(sizes[i - 1], sizes[i], &weights) ||
                      __builtin_add_overflow(total, weights, &total) ||
                      __builtin_add_overflow(total, sizes[i], &total) ||
                      total > PTRDIFF_MAX / 64)) {
            throw py::value_error("Network: sizes give too many parameters");
        }
    }
    std::vector<Activation> list;
    for (std::size_t l = 0; l < activations.size(); ++l) {
        const bool last = l + 1 == activations.size();
        const bool softmax =
            last && loss == Loss::cross_entropy && activations[l] == "softmax";
        const bool exp = last && loss == Loss::poisson && activations[l] == "exp";
        list.push_back(softmax || exp ? Activation::identity
                                      : activation_from(function, activations[l]));
        const bool pair_ok = !last || !from_logits(loss) || softmax || exp ||
                             (loss == Loss::bce && list[l] == Activation::sigmoid);
        if (!pair_ok) {
            throw py::value_error("Network: loss \"" + loss_name +
                                  "\" does not go with output activation \"" +
                                  activations[l] + "\"");
        }
    }
    return {sizes, list, biases, {loss, loss_number}};
}

}  // namespace

Network::Network(const std::vector<index_t>& sizes,
                 const std::vector<std::string>& activations,
                 const std::vector<bool>& biases, const std::string& loss,
                 const std::string& dtype, double loss_number)
    : plan_(make_plan(sizes, activations, biases, loss, loss_number)),
      dtype_(dtype_from("Network", dtype)) {
    learns_at_once_ = descends_row_by_row(plan_);
    for (const RowLayer& layer : plan_.layers) {
        learns_at_once_ = learns_at_once_ && layer.activation != Activation::step;
    }
}

Argument Network::checked(const char* function, const char* name,
                          const py::handle& value) const {
    Argument a = argument(function, name, value);
    if (a.dtype != dtype_) {
        throw DTypeError(
            a.what() + " must be " + (dtype_ == DType::f32 ? "float32" : "float64") +
            " like the network, got " + std::string(py::str(a.handle().attr("dtype"))));
    }
    return a;
}

Argument Network::checked_vector(const char* function, const char* name,
                                 const py::handle& value) const {
    Argument a = checked(function, name, value);
    check_vector(a, plan_.n_params);
    return a;
}

Argument Network::checked_x(const char* function, const py::handle& value,
                            const Argument& params) const {
    Argument x = argument(function, "x", value, params);
    check_matrix(x, kAny, plan_.n_in(), "to enter the network");
    return x;
}

Inputs Network::checked_inputs(const char* function, const py::handle& value,
                               const Argument& params) const {
    if (!py::isinstance<CsrRows>(value)) {
        return Inputs(checked_x(function, value, params));
    }
    const auto& rows = value.cast<const CsrRows&>();
    Inputs x(rows, function);
    if (x.argument().dtype != params.dtype) {
        refuse_dtype(x.argument(), params);
    }
    if (rows.cols() != plan_.n_in()) {
        throw ShapeError(std::string(function) + ": x must have " +
                         std::to_string(plan_.n_in()) + " columns, got " +
                         std::to_string(rows.cols()));
    }
    return x;
}

Argument Network::checked_t(const char* function, const py::handle& value,
                            const Inputs& x) const {
    const Argument& given = x.argument();
    Argument t = argument(function, "t", value, given);
    check_matrix(t, x.rows(), plan_.n_out(),
                 x.is_sparse() ? Because("to go with x") : Because(given));
    if (x.rows() == 0) {  // a mean over no rows is not a number
        throw ShapeError(given.what() + " must have at least one row, got " +
                         given.shape());
    }
    return t;
}

std::optional<Argument> Network::checked_weights(const char* function,
                                                 const py::handle& value,
                                                 index_t rows) const {
    if (value.is_none()) {
        return std::nullopt;
    }
    Argument weights = checked(function, "weights", value);
    check_vector(weights, rows);
    return weights;
}

Objective checked_objective(const char* function, double l1, double l2,
                            bool scikit_learn) {
    for (const double strength : {l1, l2}) {
        if (!(strength >= 0) || !std::isfinite(strength)) {
            throw py::value_error(std::string(function) +
                                  ": l1 and l2 must be finite and >= 0, got " +
                                  std::to_string(strength));
        }
    }
    return {l1, l2, scikit_learn};
}

void bind_network(py::module_& m) {
    using py::arg;
    const auto environment = py::call_guard<KeepSubnormals>();
    NetworkClass network(m, "Network");
    network
        .def(py::init<const std::vector<index_t>&, const std::vector<std::string>&,
                      const std::vector<bool>&, const std::string&, const std::string&,
                      double>(),
             arg("sizes"), arg("activations"), arg("biases"), arg("loss"), arg("dtype"),
             arg("loss_number") = 0.0, environment)
        .def_property_readonly("n_params", &Network::n_params);
    bind_predict(network);
    bind_learn(network);
    bind_loss(network);
    bind_tape(network);
    bind_fit(m, network);
    bind_fit_many(m);
    forbid_new<Network>();
}

}  // namespace siglin
