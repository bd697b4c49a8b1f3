// The parameters of a network, the memory of an optimiser, and who may touch them.
//
// Every field is read and written with the interpreter's lock held, by native code
// that runs no Python in between, and whatever is taken is given back by a destructor.
// So an exception at any bytecode, of a signal handler too, leaves nobody locked out.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "array.h"

namespace siglin {

using ThreadId = unsigned long;  // as threading.get_ident()

// What a forked child has to look through: threads that held something are gone there.
class Shared {
  public:
    Shared();
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;

    // Of all objects, in the child of a fork.
    static void forget_other_threads();

  protected:
    virtual ~Shared();
    virtual void forget_others(ThreadId me) = 0;

  private:
    Shared* previous_ = nullptr;
    Shared* next_;
};

// One vector that nobody can resize, since its memory belongs to a capsule.
//
// While a fit runs, its own thread sees the vector; every other thread reads the copy
// from before the fit, and may not write. Without a fit, short writers take turns.
class Parameters final : public Shared {
  public:
    Parameters(index_t n, DType dtype);

    py::object vector() const { return vector_; }
    // Copies for the calling thread, of the vector and of a generator's words: those
    // from before another thread's fit.
    py::object snapshot();
    py::object snapshot_generator(const py::object& state) const;
    // Copies values (a vector of the same dtype and size) into the vector.
    void assign(const py::object& function, const py::object& values);

    // Whether a reader, or a step, that holds the interpreter's lock from here to its
    // end may take the vector itself, and meets nobody.
    bool is_quiet() const { return owner_ == 0 && writer_ == 0; }
    bool is_unread() const { return readers_.empty(); }
    py::handle quiet_vector() const { return vector_; }
    // Reads of the vector itself that are under way.
    std::size_t readers() const { return readers_.size(); }

  private:
    friend class Reading;
    friend class Turn;
    friend class Writing;
    friend class Fitting;

    void forget_others(ThreadId me) override;
    // Until ready(); in turn: not before those who wait already. Nobody is kept out by
    // a thread that writes again and again.
    template <class Ready>
    void wait_in_turn(bool in_turn, Ready ready);
    bool read_by_others(ThreadId me) const;
    bool is_read_by(ThreadId me) const {
        return std::find(readers_.begin(), readers_.end(), me) != readers_.end();
    }
    // In a signal's handler: whether this thread writes, or keeps the writer waiting.
    bool would_wait_for_itself(ThreadId me) const {
        return writer_ == me || (writer_ != 0 && is_read_by(me));
    }
    bool kept_by_others(ThreadId owner, ThreadId me) const {
        return owner != 0 && owner != me;
    }

    py::object vector_;
    py::object before_;                         // the copy, while a fit runs
    ThreadId owner_ = 0;                        // the thread that fits
    ThreadId writer_ = 0;                       // the thread that makes a short write
    bool writes_parameters_ = false;            // or the gradients alone
    const std::uint64_t* generator_ = nullptr;  // that the fit draws from
    std::array<std::uint64_t, 4> generator_before_{};  // and what it was
    int waiting_ = 0;  // who waits for a writer: the next one lets them in first
    std::vector<ThreadId> readers_;  // of the vector itself, one entry for each read
};

// The Parameters behind a handle, or null for anything else.
Parameters* parameters_of(const py::handle& value);

// A read of parameters that hold still: those of a network, or an array's.
class Reading {
  public:
    explicit Reading(const py::handle& parameters);
    ~Reading();
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

    const py::object& array() const { return array_; }

  private:
    Parameters* of_ = nullptr;
    ThreadId me_ = 0;
    py::object array_;
};

// A turn as the writer, of whom there is one at a time: waits for those who came
// before. Throws RuntimeError ("busy") beside another thread's fit, or beside any.
class Turn {
  public:
    enum class Beside { own_fit, no_fit };

    Turn() = default;
    Turn(const char* function, Parameters& of, Beside beside);
    ~Turn() { end(); }
    Turn(Turn&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {}
    Turn& operator=(Turn&& other) noexcept {
        end();
        of_ = std::exchange(other.of_, nullptr);
        return *this;
    }

    void end();

  private:
    Parameters* of_ = nullptr;
};

// A short write of the parameters, or of the gradients. Waits for other short writers;
// throws RuntimeError ("busy") beside another thread's fit. Anything that is no
// Parameters is written at once.
class Writing {
  public:
    // step: of the parameters, and not in a fit's own callback either.
    enum class What { parameters, gradients, step };

    Writing(const char* function, const py::handle& parameters, What what);
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

    const py::object& array() const { return array_; }

  private:
    Turn turn_;
    py::object array_;
};

// A fit: throws RuntimeError ("busy") beside another one, waits for those who read or
// write the vector itself.
class Fitting {
  public:
    Fitting(const char* function, const py::handle& parameters);
    ~Fitting() { end(); }
    Fitting(Fitting&& other) noexcept
        : of_(std::exchange(other.of_, nullptr)), array_(std::move(other.array_)) {}
    Fitting(const Fitting&) = delete;
    Fitting& operator=(const Fitting&) = delete;

    const py::object& array() const { return array_; }
    // Puts the parameters from before the fit back.
    void undo();
    // What the fit draws from, before it does.
    void keep_generator(const std::uint64_t* words);

  private:
    void end();

    Parameters* of_ = nullptr;
    py::object array_;
};

// The vectors that an optimiser carries from step to step, and how many steps it made.
class OptimizerMemory final : public Shared {
  public:
    py::object moments() const { return moments_; }
    std::int64_t step_count() const { return step_count_; }
    bool is_busy() const { return owner_ != 0; }
    // A copy of the moments, or None, and the count.
    py::tuple snapshot() const;
    // Each of these throws RuntimeError ("busy") during a fit.
    // The moments; n zeros where there were none. Threads that begin at once get the
    // same.
    py::object begin(index_t n, const std::string& dtype);
    void set_moments(const py::object& moments);
    void set_step_count(std::int64_t count);
    void reset();

  private:
    friend class Stepping;

    void check_free(const char* function) const;
    void forget();

    // In the child of a fork the vectors may be those of half a step.
    void forget_others(ThreadId me) override;

    py::object moments_ = py::none();
    std::int64_t step_count_ = 0;
    ThreadId owner_ = 0;  // the thread that fits
};

// A fit's use of an optimiser's memory, or of an array of moments that nobody guards.
// Throws RuntimeError ("busy") where another fit has it.
class Stepping {
  public:
    Stepping(const char* function, const py::handle& memory);
    ~Stepping();
    Stepping(Stepping&& other) noexcept
        : of_(std::exchange(other.of_, nullptr)), array_(std::move(other.array_)) {}
    Stepping(const Stepping&) = delete;
    Stepping& operator=(const Stepping&) = delete;

    // The moments; an empty vector of the dtype where there are none.
    py::object array(DType dtype) const;
    std::int64_t step_count(std::int64_t otherwise) const;
    void add_steps(std::int64_t steps);
    void forget();

  private:
    OptimizerMemory* of_ = nullptr;
    py::object array_;
};

// A vector of zeros that cannot be resized.
py::object new_owned_vector(index_t n, DType dtype);
// Four words of a generator's state in memory that cannot be resized.
py::array_t<std::uint64_t> new_owned_words(const std::uint64_t* words);

}  // namespace siglin
