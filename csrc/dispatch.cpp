#include "dispatch.h"

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "self_check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace siglin {
namespace {

#if defined(__x86_64__)

// Bits of CPUID leaves 1, 7 and 0x80000001, and of XCR0 for the registers the operating
// system saves (Intel SDM volume 2, CPUID; AMD64 manual volume 3). The levels are those
// of the x86-64 psABI.
struct Feature {
    const char* name;
    unsigned leaf;
    char where;  // register: b, c, d
    unsigned bit;
};

constexpr Feature kLevel2[] = {
    {"sse3", 1, 'c', 0},          {"ssse3", 1, 'c', 9},   {"cx16", 1, 'c', 13},
    {"sse4.1", 1, 'c', 19},       {"sse4.2", 1, 'c', 20}, {"popcnt", 1, 'c', 23},
    {"lahf", 0x80000001, 'c', 0},
};
constexpr Feature kLevel3[] = {
    {"fma", 1, 'c', 12}, {"movbe", 1, 'c', 22}, {"osxsave", 1, 'c', 27},
    {"avx", 1, 'c', 28}, {"f16c", 1, 'c', 29},  {"bmi1", 7, 'b', 3},
    {"avx2", 7, 'b', 5}, {"bmi2", 7, 'b', 8},   {"lzcnt", 0x80000001, 'c', 5},
};
constexpr Feature kLevel4[] = {
    {"avx512f", 7, 'b', 16},  {"avx512dq", 7, 'b', 17}, {"avx512cd", 7, 'b', 28},
    {"avx512bw", 7, 'b', 30}, {"avx512vl", 7, 'b', 31},
};

bool has(const Feature& feature) {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid_count(feature.leaf, 0, &a, &b, &c, &d) == 0) {
        return false;
    }
    const unsigned word = feature.where == 'b' ? b : feature.where == 'c' ? c : d;
    return ((word >> feature.bit) & 1U) != 0;
}

std::uint64_t saved_registers() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<std::uint64_t>(high) << 32) | low;
}

template <std::size_t kCount>
std::string lacking(const Feature (&features)[kCount]) {
    std::string names;
    for (const Feature& feature : features) {
        if (!has(feature)) {
            names += names.empty() ? feature.name : std::string(", ") + feature.name;
        }
    }
    return names;
}

constexpr std::uint64_t kYmmState = 0x06;
constexpr std::uint64_t kZmmState = 0xe6;

bool supports(std::string_view target) {
    const bool level2 = lacking(kLevel2).empty();
    if (target == "x86_v2") {
        return level2;
    }
    const bool level3 = level2 && lacking(kLevel3).empty() &&
                        (saved_registers() & kYmmState) == kYmmState;
    if (target == "x86_v3") {
        return level3;
    }
    return target == "x86_v4" && level3 && lacking(kLevel4).empty() &&
           (saved_registers() & kZmmState) == kZmmState;
}

#else

bool supports(std::string_view) { return true; }  // NEON is part of aarch64

#endif

std::string names(const std::vector<const KernelTable*>& tables) {
    std::string list;
    for (const KernelTable* table : tables) {
        list += list.empty() ? table->name : std::string(", ") + table->name;
    }
    return list;
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

const std::vector<const KernelTable*>& compiled_tables() {
    // Never destroyed: a daemon thread may look until the process is gone.
    static const auto* const tables = new std::vector<const KernelTable*>{
#define SIGLIN_TARGET_ENTRY(target) &target::kernel_table(),
#include "targets.inc"
#undef SIGLIN_TARGET_ENTRY
    };
    return *tables;
}

std::vector<const KernelTable*> supported_tables() {
    std::vector<const KernelTable*> tables;
    for (const KernelTable* table : compiled_tables()) {
        if (supports(table->name)) {
            tables.push_back(table);
        }
    }
    return tables;
}

const KernelTable& kernel_table() {
    if (active.load(std::memory_order_acquire) == nullptr) {
        choose_target();
    }
    return *active.load(std::memory_order_acquire);
}

std::string choose_target() {
    const auto tables = supported_tables();
    if (tables.empty()) {
        throw std::runtime_error("this CPU runs no compiled target, it lacks " +
                                 missing_features());
    }
    std::string faults;
    for (const KernelTable* table : tables) {
        const std::string fault = first_fault(*table);
        if (fault.empty()) {
            active.store(table, std::memory_order_release);
            return faults.empty() ? faults
                                  : "on this machine the results are wrong of " +
                                        faults + "; siglin uses " + table->name +
                                        " instead (SIGLIN_TARGET=" + table->name +
                                        " does so without a warning)";
        }
        faults += faults.empty() ? "" : ", ";
        faults += std::string(table->name) + " (" + fault + ")";
    }
    throw std::runtime_error("on this machine the results are wrong of every target: " +
                             faults);
}

void use_target(const std::string& name) {
    const auto tables = supported_tables();
    for (const KernelTable* table : tables) {
        if (name == table->name) {
            if (const std::string fault = first_fault(*table); !fault.empty()) {
                throw std::runtime_error("on this machine the results are wrong of " +
                                         name + " (" + fault + ")");
            }
            active.store(table, std::memory_order_release);
            return;
        }
    }
    throw std::runtime_error("unknown or unsupported target '" + name +
                             "'; this CPU runs: " + names(tables) +
                             "; compiled: " + names(compiled_tables()));
}

std::string missing_features() {
#if defined(__x86_64__)
    return lacking(kLevel2);
#else
    return {};
#endif
}

}  // namespace siglin
