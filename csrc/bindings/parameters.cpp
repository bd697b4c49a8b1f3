#include "parameters.h"

#include <pythread.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <thread>

#include "../buffer.h"
#include "call.h"
#include "module.h"

namespace siglin {
namespace {

Shared* first_shared = nullptr;

ThreadId this_thread() { return PyThread_get_thread_ident(); }

// Until ready(), with the lock given back in between. Nobody waits for a thread that it
// keeps waiting itself: where a signal's handler has interrupted this thread in a read,
// ready() does not wait for a writer. A handler may end the wait by an exception.
template <class Ready>
void wait_until(Ready ready) {
    constexpr std::chrono::microseconds kBetween{100};
    while (!ready()) {
        {
            const ReleaseGil nogil;
            std::this_thread::sleep_for(kBetween);
        }
        if (handlers_raised()) {
            throw py::error_already_set();
        }
    }
}

[[noreturn]] void refuse_busy(const char* function) {
    throw std::runtime_error(std::string(function) +
                             ": the network is busy with another fit");
}

template <class T>
T* instance_of(const py::handle& value) {
    static PyObject* const type = py::type::of<T>().ptr();
    if (reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())) != type) {
        return nullptr;
    }
    auto* instance = reinterpret_cast<py::detail::instance*>(value.ptr());
    return instance->get_value_and_holder().template value_ptr<T>();
}

int number_of(DType dtype) {
    using Api = py::detail::npy_api;
    return dtype == DType::f32 ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_;
}

// A vector on memory that a capsule owns, so that no resize can free it.
template <class V>
py::array owned_array(const py::dtype& dtype, index_t n) {
    Buffer<V> memory(n);
    std::memset(static_cast<void*>(memory.data()), 0,
                static_cast<std::size_t>(n) * sizeof(V));
    auto* data = memory.data();
    const py::capsule owner(new Buffer<V>(std::move(memory)), [](void* buffer) {
        delete static_cast<Buffer<V>*>(buffer);
    });
    return {dtype, {n}, {static_cast<index_t>(sizeof(V))}, data, owner};
}

// A copy, made in pieces with a look for signals in between.
py::object copy_of(const py::object& vector) {
    constexpr std::size_t kPiece = 32 * 1024 * 1024;  // bytes: some 10 ms
    const Argument from = argument("copy", "params", vector);
    Result to = new_vector(from, from.size());
    const auto bytes = static_cast<std::size_t>(from.size() * from.item_size());
    for (std::size_t done = 0; done < bytes; done += kPiece) {
        std::memcpy(to.array->data + done, from.array->data + done,
                    std::min(kPiece, bytes - done));
        if (bytes > kPiece && handlers_raised()) {
            throw py::error_already_set();
        }
    }
    return std::move(to.owner);
}

void copy_values(const py::object& from, const py::object& to) {
    const auto source = py::reinterpret_borrow<py::array>(from);
    const auto target = py::reinterpret_borrow<py::array>(to);
    std::memcpy(const_cast<void*>(target.data()), source.data(),
                static_cast<std::size_t>(source.nbytes()));
}

}  // namespace

py::object new_owned_vector(index_t n, DType dtype) {
    const auto numpy_dtype = py::dtype(number_of(dtype));
    if (dtype == DType::f32) {
        return owned_array<float>(numpy_dtype, n);
    }
    return owned_array<double>(numpy_dtype, n);
}

py::array_t<std::uint64_t> new_owned_words(const std::uint64_t* words) {
    py::array state =
        owned_array<std::uint64_t>(py::dtype::of<std::uint64_t>(), index_t{4});
    std::copy_n(words, 4, static_cast<std::uint64_t*>(state.mutable_data()));
    return state;
}

Shared::Shared() : next_(first_shared) {
    if (next_ != nullptr) {
        next_->previous_ = this;
    }
    first_shared = this;
}

Shared::~Shared() {
    (previous_ == nullptr ? first_shared : previous_->next_) = next_;
    if (next_ != nullptr) {
        next_->previous_ = previous_;
    }
}

void Shared::forget_other_threads() {
    const ThreadId me = this_thread();
    for (Shared* one = first_shared; one != nullptr; one = one->next_) {
        one->forget_others(me);
    }
}

Parameters::Parameters(index_t n, DType dtype) : vector_(new_owned_vector(n, dtype)) {}

py::object Parameters::snapshot() {
    const Reading reading(py::cast(this));
    return copy_of(reading.array());
}

py::object Parameters::snapshot_generator(const py::object& state) const {
    const std::uint64_t* const words = generator_words("snapshot_generator", state);
    const bool kept = kept_by_others(owner_, this_thread()) && words == generator_;
    return new_owned_words(kept ? generator_before_.data() : words);
}

void Parameters::assign(const py::object& function, const py::object& values) {
    const auto name = function.cast<std::string>();
    const Writing writing(name.c_str(), py::cast(this), Writing::What::parameters);
    const Argument to = argument(name.c_str(), "params", writing.array());
    const Argument from = argument(name.c_str(), "values", values, to);
    check_vector(to, kAny);
    check_vector(from, to.extent(0));
    check_writable(to);
    std::memmove(to.array->data, from.array->data,
                 static_cast<std::size_t>(to.extent(0) * to.item_size()));
}

bool Parameters::read_by_others(ThreadId me) const {
    return std::any_of(readers_.begin(), readers_.end(),
                       [me](ThreadId reader) { return reader != me; });
}

void Parameters::forget_others(ThreadId me) {
    std::erase_if(readers_, [me](ThreadId reader) { return reader != me; });
    waiting_ = 0;
    if (writer_ != me) {
        writer_ = 0;
    }
    if (owner_ == 0 || owner_ == me) {
        return;
    }
    copy_values(before_, vector_);  // the fit stopped in the middle of a step
    before_ = py::object();
    owner_ = 0;
}

Parameters* parameters_of(const py::handle& value) {
    return instance_of<Parameters>(value);
}

template <class Ready>
void Parameters::wait_in_turn(bool in_turn, Ready ready) {
    if ((!in_turn || waiting_ == 0) && ready()) {
        return;
    }
    struct Waiting {
        int& count;
        explicit Waiting(int& c) : count(c) { ++count; }
        ~Waiting() { count = std::max(count - 1, 0); }  // a fork sets it to 0
    };
    const Waiting waiting(waiting_);
    bool again = false;
    wait_until([&] { return std::exchange(again, true) && ready(); });
}

Reading::Reading(const py::handle& parameters) {
    Parameters* const of = parameters_of(parameters);
    if (of == nullptr) {
        array_ = py::reinterpret_borrow<py::object>(parameters);
        return;
    }
    me_ = this_thread();
    of->wait_in_turn(false, [&] {
        return !of->writes_parameters_ || !of->kept_by_others(of->writer_, me_) ||
               of->is_read_by(me_);
    });
    if (of->kept_by_others(of->owner_, me_)) {
        array_ = of->before_;
        return;
    }
    of->readers_.push_back(me_);
    of_ = of;
    array_ = of->vector_;
}

Reading::~Reading() {
    if (of_ != nullptr) {
        auto& readers = of_->readers_;
        readers.erase(std::find(readers.begin(), readers.end(), me_));
    }
}

Turn::Turn(const char* function, Parameters& of, Beside beside) {
    const ThreadId me = this_thread();
    of.wait_in_turn(true, [&] {
        const bool fits = beside == Beside::own_fit ? of.kept_by_others(of.owner_, me)
                                                    : of.owner_ != 0;
        if (fits || of.would_wait_for_itself(me)) {
            refuse_busy(function);
        }
        return of.writer_ == 0;
    });
    of.writer_ = me;
    of.writes_parameters_ = false;
    of_ = &of;
}

void Turn::end() {
    if (of_ != nullptr) {
        of_->writer_ = 0;
        of_ = nullptr;
    }
}

Writing::Writing(const char* function, const py::handle& parameters, What what) {
    Parameters* const of = parameters_of(parameters);
    if (of == nullptr) {
        array_ = py::reinterpret_borrow<py::object>(parameters);
        return;
    }
    turn_ = Turn(function, *of,
                 what == What::step ? Turn::Beside::no_fit : Turn::Beside::own_fit);
    of->writes_parameters_ = what != What::gradients;
    if (of->writes_parameters_) {
        const ThreadId me = this_thread();
        wait_until([&] { return !of->read_by_others(me); });
    }
    array_ = of->vector_;
}

Fitting::Fitting(const char* function, const py::handle& parameters) {
    Parameters* const of = parameters_of(parameters);
    if (of == nullptr) {
        array_ = py::reinterpret_borrow<py::object>(parameters);
        return;
    }
    const ThreadId me = this_thread();
    {
        // Nobody else writes while the copy is made, in which handlers may run.
        const Turn turn(function, *of, Turn::Beside::no_fit);
        of->before_ = copy_of(of->vector_);
    }
    of->owner_ = me;
    of_ = of;
    try {
        // Who comes from now on reads the copy.
        wait_until([&] { return !of->read_by_others(me); });
    } catch (...) {
        end();
        throw;
    }
    array_ = of->vector_;
}

void Fitting::keep_generator(const std::uint64_t* words) {
    if (of_ != nullptr) {
        of_->generator_ = words;
        std::copy_n(words, 4, of_->generator_before_.begin());
    }
}

void Fitting::undo() {
    if (of_ != nullptr) {
        copy_values(of_->before_, of_->vector_);
    }
}

void Fitting::end() {
    if (of_ != nullptr) {
        of_->generator_ = nullptr;
        of_->owner_ = 0;
        of_->before_ = py::object();
        of_ = nullptr;
    }
}

void OptimizerMemory::check_free(const char* function) const {
    if (owner_ != 0) {
        throw std::runtime_error(std::string(function) +
                                 ": the optimizer is busy with a fit");
    }
}

py::object OptimizerMemory::begin(index_t n, const std::string& dtype) {
    if (moments_.is_none()) {
        moments_ = new_owned_vector(n, dtype_from("begin", dtype));
    }
    return moments_;
}

void OptimizerMemory::set_moments(const py::object& moments) {
    check_free("moments");
    moments_ = moments;
}

void OptimizerMemory::set_step_count(std::int64_t count) {
    check_free("step_count");
    step_count_ = count;
}

void OptimizerMemory::reset() {
    check_free("reset");
    forget();
}

py::tuple OptimizerMemory::snapshot() const {
    if (owner_ != this_thread()) {  // whose callback stands between two steps
        check_free("copy");
    }
    return py::make_tuple(moments_.is_none() ? moments_ : copy_of(moments_),
                          step_count_);
}

void OptimizerMemory::forget() {
    moments_ = py::none();
    step_count_ = 0;
}

void OptimizerMemory::forget_others(ThreadId me) {
    if (owner_ != 0 && owner_ != me) {
        owner_ = 0;
        forget();
    }
}

Stepping::Stepping(const char* function, const py::handle& memory) {
    OptimizerMemory* const of = instance_of<OptimizerMemory>(memory);
    if (of == nullptr) {
        array_ = py::reinterpret_borrow<py::object>(memory);
        return;
    }
    if (of->owner_ != 0) {
        throw std::runtime_error(std::string(function) +
                                 ": the optimizer is busy with another fit");
    }
    of->owner_ = this_thread();
    of_ = of;
    array_ = of->moments_;
}

Stepping::~Stepping() {
    if (of_ != nullptr) {
        of_->owner_ = 0;
    }
}

py::object Stepping::array(DType dtype) const {
    const bool none = of_ != nullptr && array_.is_none();
    return none ? new_owned_vector(0, dtype) : array_;
}

std::int64_t Stepping::step_count(std::int64_t otherwise) const {
    return of_ == nullptr ? otherwise : of_->step_count_;
}

void Stepping::add_steps(std::int64_t steps) {
    if (of_ != nullptr) {
        of_->step_count_ += steps;
    }
}

void Stepping::forget() {
    if (of_ != nullptr) {
        of_->forget();
    }
}

void bind_parameters(py::module_& m) {
    using py::arg;
    const py::module_ os = py::module_::import("os");
    if (py::hasattr(os, "register_at_fork")) {
        os.attr("register_at_fork")(
            arg("after_in_child") = py::cpp_function(&Shared::forget_other_threads));
    }
    m.def(
        "new_vector",
        [](index_t n, const std::string& dtype) {
            return new_owned_vector(n, dtype_from("new_vector", dtype));
        },
        arg("n"), arg("dtype"));
    py::class_<Parameters>(m, "Parameters")
        .def(py::init([](index_t n, const std::string& dtype) {
                 return new Parameters(n, dtype_from("Parameters", dtype));
             }),
             arg("n"), arg("dtype"))
        .def_property_readonly("vector", &Parameters::vector)
        .def_property_readonly("readers", &Parameters::readers)
        .def("snapshot", &Parameters::snapshot)
        .def("snapshot_generator", &Parameters::snapshot_generator, arg("state"))
        .def("assign", &Parameters::assign, arg("function"), arg("values"));
    py::class_<OptimizerMemory>(m, "OptimizerMemory")
        .def(py::init<>())
        .def_property("moments", &OptimizerMemory::moments,
                      &OptimizerMemory::set_moments)
        .def_property("step_count", &OptimizerMemory::step_count,
                      &OptimizerMemory::set_step_count)
        .def_property_readonly("is_busy", &OptimizerMemory::is_busy)
        .def("begin", &OptimizerMemory::begin, arg("n"), arg("dtype"))
        .def("snapshot", &OptimizerMemory::snapshot)
        .def("reset", &OptimizerMemory::reset);
    forbid_new<Parameters>();
    forbid_new<OptimizerMemory>();
}

}  // namespace siglin
