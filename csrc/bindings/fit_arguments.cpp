#include "fit_arguments.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

#include "call.h"
#include "names.h"

namespace siglin {
namespace {

// The fields of FitSettings and of FitHooks, in their order. The first three have no
// default.
enum Field : int {
    kLr,
    kEpochs,
    kBatchSize,
    kShuffle,
    kTol,
    kOptimizer,
    kOptions,
    kL1,
    kL2,
    kDropout,
    kClipNorm,
    kScikitLearn,
    kWeights,
    kOrder,
    kRate,
    kValidation,
    kPatience,
    kMinDelta,
    kWeightsScale,
    kFields
};
constexpr const char* kSettingsFields =
    "lr epochs batch_size shuffle tol optimizer options l1 l2 dropout clip_norm "
    "scikit_learn weights order rate validation patience min_delta "
    "weights_scale";
constexpr const char* kResultFields =
    "losses epochs steps seconds reason validation_losses best_epoch";
constexpr const char* kHooksFields = "on_epoch min_interval on_step every";

py::object named_tuple(const char* name, const char* fields,
                       const py::tuple& defaults) {
    using py::arg;
    return py::module_::import("collections")
        .attr("namedtuple")(name, fields, arg("defaults") = defaults,
                            arg("module") = "siglin._core");
}

// The fields of a FitSettings, or of another tuple of as many.
class Fields {
  public:
    Fields(const char* function, py::handle settings)
        : function_(function), tuple_(settings.ptr()) {
        if (PyTuple_Check(tuple_) == 0 || PyTuple_GET_SIZE(tuple_) != kFields) {
            throw py::type_error(std::string(function) +
                                 "(): incompatible settings, must be a FitSettings");
        }
    }

    py::handle at(Field field) const { return PyTuple_GET_ITEM(tuple_, field); }

    double real(Field field, const char* name) const {
        return number(function_, name, at(field));
    }

    index_t integer(Field field, const char* name) const {
        return integer_of(function_, name, at(field));
    }

    bool truth(Field field, const char* name) const {
        return truth_of(function_, name, at(field));
    }

  private:
    const char* function_;
    PyObject* tuple_;
};

void require(bool ok, const char* function, const std::string& what) {
    if (!ok) {
        throw py::value_error(std::string(function) + ": " + what);
    }
}

using OptimizerNumber = double OptimizerNumbers::*;

// The numbers of an optimiser, in the order of optimizers.inc.
std::initializer_list<OptimizerNumber> numbers_of(Optimizer optimizer) {
    [[maybe_unused]] constexpr OptimizerNumber beta1 = &OptimizerNumbers::beta1;
    [[maybe_unused]] constexpr OptimizerNumber beta2 = &OptimizerNumbers::beta2;
    [[maybe_unused]] constexpr OptimizerNumber eps = &OptimizerNumbers::eps;
    [[maybe_unused]] constexpr OptimizerNumber weight_decay =
        &OptimizerNumbers::weight_decay;
    switch (optimizer) {
#define SIGLIN_OPTIMIZER(name, vectors, ...)                                       \
    case Optimizer::name: {                                                        \
        static constexpr std::initializer_list<OptimizerNumber> list{__VA_ARGS__}; \
        return list;                                                               \
    }
#include "../optimizers.inc"
    }
    return {};
}

void take_options(FitSettings& settings, const char* function, py::handle options) {
    const py::object list = py::reinterpret_steal<py::object>(PySequence_Fast(
        options.ptr(), "fit(): incompatible options, must be a sequence"));
    if (!list) {
        throw py::error_already_set();
    }
    const auto members = numbers_of(settings.optimizer);
    const auto size = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(list.ptr()));
    require(size == members.size(), function,
            "options must be the optimizer's " + std::to_string(members.size()) +
                " numbers, got " + std::to_string(size));
    Py_ssize_t i = 0;
    for (const OptimizerNumber member : members) {
        const double value =
            number(function, "options", PySequence_Fast_GET_ITEM(list.ptr(), i++));
        if (member == &OptimizerNumbers::eps) {
            require(std::isfinite(value) && value > 0, function, "eps must be > 0");
        } else if (member == &OptimizerNumbers::weight_decay) {
            require(std::isfinite(value) && value >= 0, function,
                    "weight_decay must be >= 0");
        } else {
            // scikit-learn takes a momentum of 1.
            const bool whole = value == 1 && members.size() == 1;
            require(
                (value >= 0 && value < 1) || whole, function,
                "optimizer options must lie in [0, 1), got " + std::to_string(value));
        }
        settings.numbers.*member = value;
    }
}

// The data of an array that the loop reads at every epoch's start; null for None.
template <class V>
const V* plain_data(const char* function, const char* name, py::handle value,
                    index_t size) {
    if (value.is_none()) {
        return nullptr;
    }
    using Kept = py::array_t<V, py::array::c_style>;
    if (!py::isinstance<Kept>(value)) {
        throw DTypeError(std::string(function) + ": " + name +
                         " must be a contiguous array of " +
                         std::string(py::str(py::dtype::of<V>())));
    }
    const auto kept = py::reinterpret_borrow<Kept>(value);
    if (kept.ndim() != 1 || kept.shape(0) != size) {
        throw ShapeError(std::string(function) + ": " + name + " must have shape (" +
                         std::to_string(size) + ",)");
    }
    return kept.data();
}

// Throws unless these are numbers of rows of x, at least one.
RowSubset checked_rows(const char* function, py::handle subset, index_t rows_of_x) {
    if (subset.is_none()) {
        return {};
    }
    const std::string what = std::string(function) + ": rows ";
    if (!py::isinstance<RowNumbers>(subset)) {
        throw py::type_error(what + "must be a contiguous array of int64");
    }
    const auto numbers = py::reinterpret_borrow<RowNumbers>(subset);
    if (numbers.ndim() != 1 || numbers.size() == 0) {
        throw ShapeError(what + "must be a vector of at least one number");
    }
    const RowSubset rows = {numbers.data(), numbers.size()};
    const index_t* const end = rows.rows + rows.count;
    const index_t* const wrong = std::find_if(
        rows.rows, end, [&](index_t row) { return row < 0 || row >= rows_of_x; });
    if (wrong != end) {
        throw py::value_error(what + "must be numbers from 0 to " +
                              std::to_string(rows_of_x - 1) + ", got " +
                              std::to_string(*wrong));
    }
    return rows;
}

// Inputs, targets and weights or None, or nothing for None.
std::optional<HeldOut> checked_validation(const Network& network, const char* function,
                                          py::handle given, const Argument& params) {
    if (given.is_none()) {
        return std::nullopt;
    }
    PyObject* const tuple = given.ptr();
    if (PyTuple_Check(tuple) == 0 || PyTuple_GET_SIZE(tuple) != 3) {
        throw py::type_error(std::string(function) +
                             "(): incompatible validation, must be (x, t, weights)");
    }
    const Inputs x =
        network.checked_inputs(function, PyTuple_GET_ITEM(tuple, 0), params);
    const Argument t = network.checked_t(function, PyTuple_GET_ITEM(tuple, 1), x);
    return HeldOut{
        x, t, network.checked_weights(function, PyTuple_GET_ITEM(tuple, 2), x.rows())};
}

// All but the arrays.
FitSettings checked_settings(const char* function, const Fields& given, DType dtype) {
    FitSettings s;
    s.lr = given.real(kLr, "lr");
    s.epochs = given.integer(kEpochs, "epochs");
    s.batch_size = given.integer(kBatchSize, "batch_size");
    s.shuffle = given.truth(kShuffle, "shuffle");
    s.tol = given.real(kTol, "tol");
    require(std::isfinite(s.lr) && s.lr > 0, function,
            "lr must be a finite number > 0, got " + std::to_string(s.lr));
    check_finite(function, "lr", s.lr, dtype);
    require(s.epochs >= 0, function,
            "epochs must be >= 0, got " + std::to_string(s.epochs));
    require(s.batch_size >= 1, function,
            "batch_size must be >= 1, got " + std::to_string(s.batch_size));
    require(s.tol >= 0, function, "tol must be >= 0, got " + std::to_string(s.tol));
    s.optimizer = optimizer_from(function, given.at(kOptimizer));
    take_options(s, function, given.at(kOptions));
    s.objective =
        checked_objective(function, given.real(kL1, "l1"), given.real(kL2, "l2"),
                          given.truth(kScikitLearn, "scikit_learn"));
    s.weights_scale = given.truth(kWeightsScale, "weights_scale");
    s.dropout = given.real(kDropout, "dropout");
    s.clip_norm = given.real(kClipNorm, "clip_norm");
    require(s.dropout >= 0 && s.dropout < 1, function,
            "dropout must be in [0, 1), got " + std::to_string(s.dropout));
    require(s.clip_norm >= 0 && std::isfinite(s.clip_norm), function,
            "clip_norm must be finite and >= 0, got " + std::to_string(s.clip_norm));
    return s;
}

// As many vectors of the parameters' size as the optimiser carries.
void check_moments(const Network& network, const FitSettings& settings,
                   const Argument& moments) {
    check_vector(moments, memory_vectors(settings.optimizer) * network.n_params());
    check_writable(moments);
}

}  // namespace

void bind_fit_records(py::module_& m) {
    const py::object none = py::none();
    m.attr("FitSettings") =
        named_tuple("FitSettings", kSettingsFields,
                    py::make_tuple(true, 0.0, "gd", py::tuple(), 0.0, 0.0, 0.0, 0.0,
                                   false, none, none, none, none, 0, 0.0, false));
    m.attr("FitResult") = named_tuple("FitResult", kResultFields, py::tuple());
    m.attr("FitHooks") =
        named_tuple("FitHooks", kHooksFields, py::make_tuple(none, 0.0, none, 0));
}

FitArguments checked_fit(const Network& network, const char* function,
                         const Argument& params, const Inputs& x, py::handle t_,
                         py::handle state, py::handle settings_,
                         const py::object& moments_, std::int64_t step_count,
                         py::handle rows_) {
    check_writable(params);
    const Argument t = network.checked_t(function, t_, x);
    const RowSubset subset = checked_rows(function, rows_, x.rows());
    const Fields given(function, settings_);
    FitSettings settings = checked_settings(function, given, network.dtype());
    const index_t rows = subset.rows == nullptr ? x.rows() : subset.count;
    settings.batch_size = std::min(settings.batch_size, rows);
    settings.order =
        plain_data<std::int64_t>(function, "order", given.at(kOrder), x.rows());
    settings.rate = plain_data<double>(function, "rate", given.at(kRate), 1);
    require(step_count >= 0, function, "step_count must be >= 0");
    const index_t patience = given.integer(kPatience, "patience");
    const double min_delta = given.real(kMinDelta, "min_delta");
    require(patience >= 0, function, "patience must be >= 0");
    require(min_delta >= 0, function, "min_delta must be >= 0");
    auto validation =
        checked_validation(network, function, given.at(kValidation), params);
    const Argument moments = network.checked(function, "moments", moments_);
    check_moments(network, settings, moments);
    std::uint64_t* generator =
        generator_words(function, py::reinterpret_borrow<py::object>(state));
    auto weights = network.checked_weights(function, given.at(kWeights), x.rows());
    for (const Argument* written : {&params, &moments}) {
        check_no_overlap(*written, x.argument());
        check_no_overlap(*written, t);
        if (weights) {
            check_no_overlap(*written, *weights);
        }
        if (validation) {
            check_no_overlap(*written, validation->x.argument());
            check_no_overlap(*written, validation->t);
            if (validation->weights) {
                check_no_overlap(*written, *validation->weights);
            }
        }
    }
    check_no_overlap(moments, params);
    return {params,    x,          t,        moments,  weights,   validation,
            generator, step_count, settings, patience, min_delta, subset};
}

FitSettings checked_step(const Network& network, const char* function,
                         py::handle settings_, const Argument& moments) {
    const FitSettings settings =
        checked_settings(function, Fields(function, settings_), network.dtype());
    check_moments(network, settings, moments);
    return settings;
}

py::object as_record(const FitResult& result) {
    static PyObject* const type =
        py::object(py::module_::import("siglin._core").attr("FitResult"))
            .release()
            .ptr();
    static PyObject* const empty = py::array_t<double>(0).release().ptr();
    const auto vector = [](const std::vector<double>& values) -> py::object {
        if (values.empty()) {
            return py::reinterpret_borrow<py::object>(empty);
        }
        py::array_t<double> array(static_cast<py::ssize_t>(values.size()));
        std::copy(values.begin(), values.end(), array.mutable_data());
        return array;
    };
    const py::tuple fields = py::make_tuple(
        vector(result.loss), result.epochs, result.steps, result.seconds,
        name_of(result.reason), vector(result.validation_loss),
        result.best_epoch == 0 ? py::object(py::none()) : py::int_(result.best_epoch));
    // A named tuple's own constructor is Python code.
    const py::tuple given = py::make_tuple(fields);
    PyObject* const record = PyTuple_Type.tp_new(reinterpret_cast<PyTypeObject*>(type),
                                                 given.ptr(), nullptr);
    if (record == nullptr) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(record);
}

}  // namespace siglin
