// What this machine can do at most: multiply-adds from registers, and reading memory.
//
//     machine_peak <threads>
//
// Prints JSON: GFLOP/s of float32 and float64 on all threads together, and for each
// level of the memory its size for one thread in bytes and the GB/s read on all threads
// together. Compiled for the machine it runs on (-march=native), which siglin's kernels
// are not.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
#elif defined(__AVX__)
constexpr std::size_t kVectorBytes = 32;
#else
constexpr std::size_t kVectorBytes = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
    typedef double type __attribute__((vector_size(kVectorBytes)));
};

constexpr int kRounds = 7;             // the fastest counts
constexpr double kRoundSeconds = .02;  // of which each takes about so long

// Runs work(thread) on so many threads that start together; returns the seconds until
// the last has finished, the fastest round of kRounds.
template <class Work>
double fastest(int threads, const Work& work) {
    double best = 1e9;
    for (int round = 0; round < kRounds; ++round) {
        std::atomic<int> ready{0};
        std::atomic<bool> go{false};
        std::vector<Clock::time_point> ends(static_cast<std::size_t>(threads));
        const auto run = [&](int thread) {
            ready.fetch_add(1);
            while (!go.load()) std::this_thread::yield();
            work(thread);
            ends[static_cast<std::size_t>(thread)] = Clock::now();
        };
        std::vector<std::thread> others;
        for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
        while (ready.load() < threads - 1) std::this_thread::yield();
        const auto start = Clock::now();
        go.store(true);
        run(0);
        for (auto& other : others) other.join();
        const auto end = *std::max_element(ends.begin(), ends.end());
        best = std::min(best, std::chrono::duration<double>(end - start).count());
    }
    return best;
}

// So many repeats that a round takes about kRoundSeconds; doubled until they can be
// timed.
template <class Work>
std::size_t repeats_of(const Work& run) {
    for (std::size_t repeats = 1;; repeats *= 2) {
        const auto start = Clock::now();
        run(repeats);
        const std::chrono::duration<double> seconds = Clock::now() - start;
        if (seconds.count() >= kRoundSeconds / 2) return repeats;
    }
}

// 12 chains: a multiply-add takes 4 cycles and two start in each, so 8 would do; 13 fit
// into the 16 registers of AVX2 beside the two factors. Each is a variable of its own:
// of an array GCC 12 keeps the elements in memory.
constexpr int kChains = 12;
constexpr int kSteps = 4096;

template <class T>
T multiply_add(std::size_t repeats) {
    using V = typename VectorOf<T>::type;
    // Of an unknown factor, or the compiler sees that a chain stands still.
    volatile T half = T(0.5);
    const V factor = V{} + half;
    const V term = V{} + T(1);
    // Different starts, or it finds that one chain is enough.
    V a = term, b = a + a, c = b + a, d = c + a, e = d + a, f = e + a;
    V g = f + a, h = g + a, i = h + a, j = i + a, k = j + a, l = k + a;
    for (std::size_t step = 0; step < repeats * kSteps; ++step) {
        a = a * factor + term, b = b * factor + term, c = c * factor + term;
        d = d * factor + term, e = e * factor + term, f = f * factor + term;
        g = g * factor + term, h = h * factor + term, i = i * factor + term;
        j = j * factor + term, k = k * factor + term, l = l * factor + term;
    }
    const V sum = a + b + c + d + e + f + g + h + i + j + k + l;
    return sum[0];
}

template <class T>
double gflops(int threads) {
    const auto run = [](std::size_t repeats) {
        volatile T kept = multiply_add<T>(repeats);
        (void)kept;
    };
    const std::size_t repeats = repeats_of(run);
    const double seconds = fastest(threads, [&](int) { run(repeats); });
    const double flops = 2.0 * kChains * kSteps * (kVectorBytes / sizeof(T)) *
                         static_cast<double>(repeats) * threads;
    return flops / seconds / 1e9;
}

void read_all(const float* data, std::size_t bytes, std::size_t repeats) {
    using V = typename VectorOf<float>::type;
    constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
    const auto at = [](const float* from) {
        V value;
        std::memcpy(&value, from, sizeof value);
        return value;
    };
    V a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{};
    const float* const end = data + bytes / sizeof(float);
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
        for (const float* p = data; p < end; p += 8 * kLanes) {
            a += at(p), b += at(p + kLanes), c += at(p + 2 * kLanes);
            d += at(p + 3 * kLanes), e += at(p + 4 * kLanes), f += at(p + 5 * kLanes);
            g += at(p + 6 * kLanes), h += at(p + 7 * kLanes);
        }
        asm volatile("" : : "r"(data) : "memory");  // it may hold other numbers now
    }
    volatile float kept = (a + b + c + d + e + f + g + h)[0];
    (void)kept;
}

double gbytes(std::size_t bytes, int threads) {
    std::vector<std::unique_ptr<float[], decltype(&std::free)>> data;
    for (int i = 0; i < threads; ++i) {
        data.emplace_back(static_cast<float*>(std::aligned_alloc(4096, bytes)),
                          &std::free);
        std::fill_n(data.back().get(), bytes / sizeof(float), 1.0F);
    }
    const std::size_t repeats =
        repeats_of([&](std::size_t n) { read_all(data[0].get(), bytes, n); });
    const double seconds = fastest(threads, [&](int thread) {
        read_all(data[static_cast<std::size_t>(thread)].get(), bytes, repeats);
    });
    return static_cast<double>(bytes) * static_cast<double>(repeats) * threads /
           seconds / 1e9;
}

// The bytes of a data cache as Linux tells them, or what is common where it does not.
// sysconf counts the L3 of all sockets in some virtual machines.
std::size_t cache_size(int level, std::size_t otherwise) {
    for (int index = 0; index < 8; ++index) {
        const std::string folder =
            "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
        std::ifstream level_file(folder + "level"), type_file(folder + "type");
        std::ifstream size_file(folder + "size");
        int its_level = 0;
        std::string type;
        std::size_t kilobytes = 0;
        level_file >> its_level;
        type_file >> type;
        size_file >> kilobytes;  // "32K"
        if (its_level == level && type != "Instruction" && kilobytes > 0) {
            return kilobytes << 10;
        }
    }
    return otherwise;
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
    const std::size_t l1 = cache_size(1, 32 << 10);
    const std::size_t l2 = cache_size(2, 512 << 10);
    const std::size_t l3 = cache_size(3, 16 << 20);
    // Half of a cache, so that nothing else pushes the data out; the threads share L3.
    const auto whole = [](std::size_t bytes) { return bytes / 4096 * 4096; };
    const std::size_t memory = std::max<std::size_t>(4 * l3, 256 << 20);
    const struct {
        const char* name;
        std::size_t holds;
        std::size_t read;
    } levels[] = {
        {"L1", l1, whole(l1 / 2)},
        {"L2", l2, whole(l2 / 2)},
        {"L3", l3, whole(l3 / 2 / static_cast<std::size_t>(threads))},
        {"memory", 0, whole(memory / static_cast<std::size_t>(threads))},
    };
    std::printf("{\"threads\": %d, \"vector_bytes\": %zu,\n", threads, kVectorBytes);
    std::printf(" \"gflops\": {\"float32\": %.1f", gflops<float>(threads));
    std::printf(", \"float64\": %.1f},\n \"levels\": [", gflops<double>(threads));
    const char* comma = "";
    for (const auto& level : levels) {
        std::printf("%s\n  {\"name\": \"%s\", \"holds\": %zu, \"gbytes\": %.1f}", comma,
                    level.name, level.holds, gbytes(level.read, threads));
        comma = ",";
    }
    std::printf("]}\n");
    return 0;
}
