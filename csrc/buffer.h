// Memory for the core: aligned, uninitialised, MemoryError (std::bad_alloc) on failure.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "dispatch.h"

namespace siglin {

template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(index_t count) {
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(static_cast<std::size_t>(count), sizeof(T),
                                   &bytes) ||
            bytes > PTRDIFF_MAX - kHugePage) {
            throw std::bad_alloc();
        }
        const std::size_t align = bytes < 2 * kHugePage ? kLine : kHugePage;
        bytes = (bytes + align) / align * align;
        data_.reset(static_cast<T*>(std::aligned_alloc(align, bytes)));
        if (data_ == nullptr) {
            throw std::bad_alloc();
        }
#ifdef MADV_HUGEPAGE
        if (align == kHugePage) {
            // Advice that may be refused; NumPy gives the same for its arrays.
            static_cast<void>(madvise(data_.get(), bytes, MADV_HUGEPAGE));
        }
#endif
    }
    T* data() const { return data_.get(); }

  private:
    static constexpr std::size_t kLine = 64;
    static constexpr std::size_t kHugePage = 2 * 1024 * 1024;

    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
};

// A few elements on the stack, more from the heap.
template <class T>
class Scratch {
  public:
    explicit Scratch(index_t count) {
        if (count > kFew) {
            heap_ = Buffer<T>(count);
        }
    }
    T* data() { return heap_.data() == nullptr ? few_ : heap_.data(); }

  private:
    // 1 kB: the layers whose calls a malloc would show in, without touching new pages.
    static constexpr index_t kFew = 1024 / static_cast<index_t>(sizeof(T));

    alignas(64) T few_[kFew];
    Buffer<T> heap_;
};

// Space of the calling thread that grows to what was asked for, one for each Use; what
// it held is lost when it grows. Pages that nobody writes are never touched.
template <class Use>
void* thread_space(std::size_t bytes) {
    thread_local Buffer<std::byte> space;
    thread_local std::size_t size = 0;
    if (size < bytes) {
        space = Buffer<std::byte>(static_cast<index_t>(bytes));
        size = bytes;
    }
    return space.data();
}

// Where a product on this thread packs its operands.
struct Workspace;
template <class T>
T* thread_workspace() {
    return static_cast<T*>(thread_space<Workspace>(kernel_table().workspace_bytes));
}

}  // namespace siglin
