#include "perceptron.h"

#include "progress.h"

namespace siglin {

template <class T>
std::vector<index_t> fit_perceptron(T* w, T* b, MatrixView<const T> x, const T* t,
                                    index_t t_stride, index_t epochs,
                                    const std::function<bool()>& interrupted) {
    std::vector<index_t> mistakes;
    InterruptPoll poll(interrupted);
    while (static_cast<index_t>(mistakes.size()) < epochs) {
        index_t wrong = 0;
        for (index_t i = 0; i < x.rows; ++i) {
            const T* row = x.data + i * x.stride;
            T z = b == nullptr ? T(0) : *b;
            for (index_t j = 0; j < x.cols; ++j) {
                z += row[j] * w[j];
            }
            const T error = t[i * t_stride] - (z > 0 ? T(1) : T(0));
            if (error != 0) {
                ++wrong;
                for (index_t j = 0; j < x.cols; ++j) {
                    w[j] += error * row[j];
                }
                if (b != nullptr) {
                    *b += error;
                }
            }
            poll.charge(static_cast<double>(x.cols) + 16.0);
        }
        mistakes.push_back(wrong);
        if (wrong == 0) {
            break;
        }
    }
    return mistakes;
}

#define SIGLIN_INSTANTIATE(T)                                                    \
    template std::vector<index_t> fit_perceptron<T>(T*, T*, MatrixView<const T>, \
                                                    const T*, index_t, index_t,  \
                                                    const std::function<bool()>&);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
