// A network as Python sees it: what it is, and its doors to the core. Each door is
// defined in a file of its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../objective.h"
#include "../plan.h"
#include "array.h"
#include "inputs.h"

namespace siglin {

class Network {
  public:
    Network(const std::vector<index_t>& sizes,
            const std::vector<std::string>& activations,
            const std::vector<bool>& biases, const std::string& loss,
            const std::string& dtype, double loss_number);

    const NetworkPlan& plan() const { return plan_; }
    DType dtype() const { return dtype_; }
    index_t n_params() const { return plan_.n_params; }

    // predict.cpp
    py::object predict(const py::object& params, const py::object& x,
                       const py::object& out) const;
    py::object predict_now(py::handle params, py::handle x, py::handle out) const;

    // learn.cpp
    py::object learn_now(py::handle params, py::handle x, py::handle t,
                         py::handle lr) const;
    py::object learn(const py::object& params, const py::object& x, const py::object& t,
                     const py::object& state, const py::object& settings,
                     const py::object& memory, const std::string& function) const;
    bool step(const py::object& params, const py::object& grads,
              const py::object& settings, const py::object& memory) const;

    // loss.cpp
    double loss(const py::object& params, const py::object& x, const py::object& t,
                const py::object& weights, bool scikit_learn) const;
    double loss_and_grads(const py::object& params, const py::object& grads,
                          const py::object& x, const py::object& t,
                          const py::object& weights, double l1, double l2,
                          bool scikit_learn) const;
    void update(const py::object& params, const py::object& grads, double lr) const;

    // tape.cpp: a loop written by hand
    py::tuple forward(const py::object& params, const py::object& x) const;
    double backward(const py::object& params, const py::object& grads,
                    const py::object& x, const py::list& hidden, const py::object& z,
                    const py::object& t) const;
    py::object backward_from(const py::object& params, const py::object& grads,
                             const py::object& x, const py::list& hidden,
                             const py::object& z, const py::object& da) const;

    // fit.cpp
    py::object fit(py::handle params, py::handle x, py::handle t, py::handle state,
                   py::handle settings, py::handle memory, py::handle step_count,
                   py::handle hooks, py::handle function) const;

    // Arguments of a call, checked; each throws as its check says.

    // Of the network's dtype.
    Argument checked(const char* function, const char* name,
                     const py::handle& value) const;
    // As long as the parameters.
    Argument checked_vector(const char* function, const char* name,
                            const py::handle& value) const;
    Argument checked_x(const char* function, const py::handle& value,
                       const Argument& params) const;
    // The same, or a CsrRows.
    Inputs checked_inputs(const char* function, const py::handle& value,
                          const Argument& params) const;
    // Targets of the rows of x, of which there is at least one.
    Argument checked_t(const char* function, const py::handle& value,
                       const Inputs& x) const;
    Argument checked_t(const char* function, const py::handle& value,
                       const Argument& x) const {
        return checked_t(function, value, Inputs(x));
    }
    // One weight for each row, unless None.
    std::optional<Argument> checked_weights(const char* function,
                                            const py::handle& value,
                                            index_t rows) const;

    // Whether this is an array of the network's dtype.
    bool ours(const py::handle& value, Argument& a) const {
        return is_viewable(value, a) && a.dtype == dtype_;
    }

    // Of a pass over so many rows, in multiply-adds.
    double work(index_t rows) const {
        return 3.0 * static_cast<double>(rows) * static_cast<double>(plan_.n_params);
    }

  private:
    template <class T>
    bool learn_plainly(T* params, const T* x, const T* t, double lr,
                       double& loss) const;
    template <class T>
    const T* target_row(const py::handle& t, const Argument& params, T* few,
                        index_t room) const;
    bool learns_soon() const;
    bool plain_number(const py::handle& value, double& number) const;
    double loss_of(const char* function, const py::object& params,
                   std::optional<Argument> grads, const py::object& x,
                   const py::object& t, const py::object& weights,
                   const Objective& objective) const;

    NetworkPlan plan_;
    DType dtype_;
    bool learns_at_once_ = false;
};

// The strengths of penalties; throws ValueError unless they are finite and >= 0.
Objective checked_objective(const char* function, double l1, double l2,
                            bool scikit_learn);

// What each file registers.
using NetworkClass = py::class_<Network>;
void bind_predict(NetworkClass& network);
void bind_learn(NetworkClass& network);
void bind_loss(NetworkClass& network);
void bind_tape(NetworkClass& network);
void bind_fit(py::module_& m, NetworkClass& network);
void bind_fit_many(py::module_& m);

}  // namespace siglin
