// Which instruction sets there are, and which runs.
#include <pybind11/stl.h>

#include <cstdlib>
#include <string>

#include "../dispatch.h"
#include "module.h"

namespace siglin {

namespace py = pybind11;

namespace {

std::vector<std::string> names(const std::vector<const KernelTable*>& tables) {
    std::vector<std::string> list;
    for (const KernelTable* table : tables) {
        list.emplace_back(table->name);
    }
    return list;
}

std::map<std::string, std::string> build_info() {
    std::string compiled;
    for (const KernelTable* table : compiled_tables()) {
        compiled += compiled.empty() ? "" : " ";
        compiled += table->name;
    }
    return {
        {"version", SIGLIN_VERSION},
        {"compiler", SIGLIN_COMPILER},
        {"build_type", SIGLIN_BUILD_TYPE},
        {"architecture", SIGLIN_ARCHITECTURE},
        {"targets", compiled},
        {"target", kernel_table().name},
    };
}

}  // namespace

void bind_targets(py::module_& m) {
    std::string complaint;
    if (const char* name = std::getenv("SIGLIN_TARGET");
        name != nullptr && *name != '\0') {
        try {
            use_target(name);
        } catch (const std::runtime_error& e) {
            throw std::runtime_error(std::string("SIGLIN_TARGET: ") + e.what());
        }
    } else {
        try {
            complaint = choose_target();
        } catch (const std::runtime_error& e) {
            throw py::import_error(std::string("siglin: ") + e.what());
        }
    }
    // Python warns, since it knows whose line imports siglin.
    m.def("complaint", [complaint] { return complaint; });
    m.def("compiled_targets", [] { return names(compiled_tables()); });
    m.def("targets", [] { return names(supported_tables()); });
    m.def("target", [] { return std::string(kernel_table().name); });
    m.def("use_target", &use_target, py::arg("name"));
    m.def("build_info", &build_info);
}

}  // namespace siglin
