// Preloaded by test_memory.py: makes the n-th allocation of one module fail.
//
// fail_range(low, high): the module's code. fail_at(n): its n-th allocation from now on
// fails, and only that one; 0: none does. fail_count(): its allocations since fail_at.
#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::uintptr_t> low = 0;
std::atomic<std::uintptr_t> high = 0;
std::atomic<long> failing = 0;
std::atomic<long> count = 0;

bool fails(void* caller) {
    const auto at = reinterpret_cast<std::uintptr_t>(caller);
    if (at < low.load() || at >= high.load()) {
        return false;
    }
    const long number = count.fetch_add(1) + 1;
    return number == failing.load();
}

template <class Function>
Function next(const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

void* new_or_throw(void* caller, std::size_t size) {
    void* p = fails(caller) ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (p == nullptr) {
        throw std::bad_alloc();
    }
    return p;
}

}  // namespace

extern "C" {

void fail_range(std::uintptr_t from, std::uintptr_t to) {
    low = from;
    high = to;
}

void fail_at(long number) {
    failing = 0;
    count = 0;
    failing = number;
}

long fail_count() { return count; }

void* aligned_alloc(std::size_t align, std::size_t size) {
    static const auto real = next<void* (*)(std::size_t, std::size_t)>("aligned_alloc");
    if (fails(__builtin_return_address(0))) {
        errno = ENOMEM;
        return nullptr;
    }
    return real(align, size);
}

// Not malloc: dlsym itself may call it, and C++ does so by way of operator new.
}

void* operator new(std::size_t size) {
    return new_or_throw(__builtin_return_address(0), size);
}
void* operator new[](std::size_t size) {
    return new_or_throw(__builtin_return_address(0), size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
