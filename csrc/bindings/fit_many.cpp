// Fits of many networks, side by side.
#include "../fit_many.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../float_environment.h"
#include "call.h"
#include "fit_arguments.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {
namespace {

// Throws ValueError where what one job writes touches what another one reads or writes.
void check_jobs_apart(const std::vector<FitArguments>& calls) {
    const auto by_low = [](const Extent& a, const Extent& b) { return a.low < b.low; };
    const auto words = [](const void* data, index_t count) -> Extent {
        const auto low = reinterpret_cast<std::intptr_t>(data);
        return {low, low + count * 8};
    };
    std::vector<Extent> written;
    std::vector<Extent> read;
    for (const FitArguments& c : calls) {
        written.push_back(extent_of(c.params));
        written.push_back(words(c.generator, 4));
        if (c.moments.size() > 0) {
            written.push_back(extent_of(c.moments));
        }
        read.push_back(extent_of(c.x.argument()));
        read.push_back(extent_of(c.t));
        read.push_back(words(c.subset.rows, c.subset.count));
        if (c.weights) {
            read.push_back(extent_of(*c.weights));
        }
        if (c.validation) {
            read.push_back(extent_of(c.validation->x.argument()));
            read.push_back(extent_of(c.validation->t));
            if (c.validation->weights) {
                read.push_back(extent_of(*c.validation->weights));
            }
        }
    }
    std::sort(written.begin(), written.end(), by_low);
    bool apart = true;
    for (std::size_t i = 1; i < written.size(); ++i) {
        apart = apart && written[i - 1].high <= written[i].low;
    }
    // Where those are apart, their ends are in order too.
    for (const Extent& r : read) {
        const auto w = std::lower_bound(
            written.begin(), written.end(), r,
            [](const Extent& a, const Extent& b) { return a.high <= b.low; });
        apart = apart && (w == written.end() || r.high <= w->low || r.high == r.low);
    }
    if (!apart) {
        throw py::value_error("fit_many: the arrays of the jobs must not overlap");
    }
}

// A job as Python gives it: network, params, t, rows, state, settings, memory, and
// what to call after each of its epochs, or None.
constexpr std::size_t kJobSize = 8;

// Returns for each job what Network.fit returns.
py::list fit_jobs(const py::object& x_, const py::list& jobs_,
                  const py::object& on_progress) {
    const char* function = "fit_many";
    std::vector<py::tuple> jobs;  // keeps alive what they hold
    std::vector<const Network*> networks;
    std::vector<Fitting> fittings;
    std::vector<Stepping> steppings;
    std::vector<py::object> moments;
    std::vector<FitArguments> all;
    for (const py::handle given : jobs_) {
        if (!py::isinstance<py::tuple>(given) || py::len(given) != kJobSize) {
            throw py::type_error(
                "fit_many(): incompatible jobs, must be a list of tuples of eight");
        }
        jobs.push_back(py::reinterpret_borrow<py::tuple>(given));
        const py::tuple& job = jobs.back();
        const auto* network = job[0].cast<const Network*>();
        if (network == nullptr) {
            throw py::type_error(
                "fit_many(): incompatible jobs, None is not a Network");
        }
        networks.push_back(network);
        fittings.emplace_back(function, job[1]);
        steppings.emplace_back(function, job[6]);
        const Stepping& stepping = steppings.back();
        const Argument params =
            network->checked_vector(function, "params", fittings.back().array());
        const Inputs x = network->checked_inputs(function, x_, params);
        moments.push_back(stepping.array(params.dtype));
        all.push_back(checked_fit(*network, function, params, x, job[2], job[4], job[5],
                                  moments.back(), stepping.step_count(0), job[3]));
        fittings.back().keep_generator(all.back().generator);
    }
    check_jobs_apart(all);
    ManyHooks hooks;
    if (std::any_of(jobs.begin(), jobs.end(),
                    [](const py::tuple& job) { return !job[7].is_none(); })) {
        for (const py::tuple& job : jobs) {
            hooks.listens.push_back(!job[7].is_none());
        }
    }
    hooks.on_epoch = [&jobs](std::size_t k, const FitResult& result, bool last) {
        const auto& losses = result.validation_loss;
        return with_gil([&] {
            return flag(call(jobs[k][7], result.epochs, result.steps,
                             result.loss.back(),
                             or_none(losses.empty() ? nullptr : &losses.back()), last));
        });
    };
    hooks.interrupted = [&on_progress](index_t done) {
        return with_gil([&] {
            if (handlers_raised()) {
                return true;
            }
            try {
                if (!on_progress.is_none()) {
                    call(on_progress, done);
                }
            } catch (py::error_already_set& error) {
                error.restore();  // nothing may be thrown while others are waited for
                return true;
            }
            return false;
        });
    };
    std::vector<FitResult> results(all.size());
    std::vector<std::unique_ptr<StepsCounted>> counted;
    for (std::size_t k = 0; k < all.size(); ++k) {
        counted.push_back(std::make_unique<StepsCounted>(steppings[k], results[k]));
    }
    if (!all.empty()) {
        dispatch_dtype(all.front().params.dtype, [&](auto tag) {
            using T = decltype(tag);
            std::vector<FitJob<T>> native;
            for (std::size_t k = 0; k < all.size(); ++k) {
                native.push_back(all[k].job<T>(networks[k]->plan()));
            }
            try {
                const ReleaseGil nogil;
                siglin::fit_many<T>(native, hooks, results);
            } catch (const Interrupted&) {
                throw py::error_already_set();
            }
        });
    }
    py::list list;
    for (const FitResult& result : results) {
        list.append(as_record(result));
    }
    return list;
}

}  // namespace

void bind_fit_many(py::module_& m) {
    using py::arg;
    m.def("fit_many", &fit_jobs, arg("x"), arg("jobs"), py::kw_only(),
          arg("on_progress"), py::call_guard<FlushSubnormals>());
}

}  // namespace siglin
