#include "inputs.h"

#include "../float_environment.h"
#include "module.h"

namespace siglin {
namespace {

template <class V>
void require_vector(const char* name, const py::array& array) {
    using Plain = py::array_t<V, py::array::c_style>;
    if (!py::isinstance<Plain>(array) || array.ndim() != 1) {
        throw DTypeError(std::string("CsrRows: ") + name +
                         " must be a contiguous vector of " +
                         std::string(py::str(py::dtype::of<V>())));
    }
}

}  // namespace

CsrRows::CsrRows(py::array values, py::array columns, py::array starts, index_t cols)
    : values_(std::move(values)),
      columns_(std::move(columns)),
      starts_(std::move(starts)),
      cols_(cols) {
    check_vector(this->values(), kAny);
    require_vector<std::int32_t>("columns", columns_);
    require_vector<std::int64_t>("starts", starts_);
    const auto wrong = [](const char* what) {
        throw py::value_error(std::string("CsrRows: ") + what);
    };
    const index_t count = columns_.shape(0);
    if (starts_.shape(0) == 0 || values_.shape(0) != count) {
        wrong("values, columns and starts must be those of CSR rows");
    }
    const auto* start = static_cast<const std::int64_t*>(starts_.data());
    for (index_t i = 0; i < rows(); ++i) {
        if (start[i] > start[i + 1]) {
            wrong("starts must not fall");
        }
    }
    if (start[0] < 0 || start[rows()] > count) {
        wrong("starts must lie within the values");
    }
    const auto* column = static_cast<const std::int32_t*>(columns_.data());
    for (index_t p = 0; p < count; ++p) {
        if (column[p] < 0 || column[p] >= cols) {
            wrong("a column is out of range");
        }
    }
    for (index_t i = 0; i < rows(); ++i) {
        for (std::int64_t p = start[i] + 1; p < start[i + 1]; ++p) {
            if (column[p - 1] >= column[p]) {
                wrong("columns must rise within a row");
            }
        }
    }
}

Argument CsrRows::values() const { return argument("CsrRows", "values", values_); }

Inputs::Inputs(const CsrRows& sparse, const char* function)
    : argument_(sparse.values()), sparse_(&sparse) {
    argument_.function = function;
    argument_.name = "x";
}

void bind_inputs(py::module_& m) {
    using py::arg;
    py::class_<CsrRows>(m, "CsrRows")
        .def(py::init<py::array, py::array, py::array, index_t>(), arg("values"),
             arg("columns"), arg("starts"), arg("cols"),
             py::call_guard<KeepSubnormals>())
        .def("__len__", &CsrRows::rows);
}

}  // namespace siglin
