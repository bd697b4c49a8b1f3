// Single-row gradient descent: many steps of a small network in one call.
//
// A step of a net like 2-3-1 is one chain of operations, each waiting for the one
// before. So what is not on that chain is done elsewhere: the parameters are copied
// into rows of whole vectors once a call (a piece of a vector, stored, is not forwarded
// to the load that follows), losses are computed for all steps together, and whether a
// number overflowed is asked once, at the end.
#pragma once

#include "../kernel_table.h"
#include "activation.h"
#include "loss.h"
#include "two_layer_descent.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A layer in the scratch of one call. Rows are padded to whole vectors by zeros, which
// stay zero: outputs past the end are 0, and so are their gradients.
template <class T>
struct DescentLayer {
    T* w;         // n_in rows of n_out; null for one output
    T* across;    // n_out rows of n_in; null where neither dx nor one output needs it
    T* b;         // zeros without a bias
    T* existing;  // 1 for every output, 0 past them
    T* a;
    T* derivative;
    T* dz;
    int vecs;         // n_out
    int across_vecs;  // n_in
};

template <class T>
SIGLIN_INLINE int vecs_of(index_t n) {
    return static_cast<int>((n + kLanes<T> - 1) / kLanes<T>);
}

// Sum of a[i] * b[i] over whole vectors: chains of 64 bytes of logical lanes, added by
// halves, the same order whatever the vector width.
template <class T>
SIGLIN_INLINE T row_dot(const T* a, const T* b, int vecs) {
    constexpr int kChains = 64 / kVecBytes;
    constexpr int L = kLanes<T>;
    if (vecs == 1) {
        return sum<T>(load(a) * load(b));
    }
    Vec<T> chain[kChains] = {};
    for (int v = 0; v < vecs; v += kChains) {
#pragma GCC unroll 4
        for (int c = 0; c < kChains; ++c) {
            if (v + c < vecs) {
                chain[c] = fma(load(a + (v + c) * L), load(b + (v + c) * L), chain[c]);
            }
        }
    }
#pragma GCC unroll 4
    for (int width = kChains / 2; width > 0; width /= 2) {
#pragma GCC unroll 4
        for (int c = 0; c < width; ++c) {
            chain[c] += chain[c + width];
        }
    }
    return sum<T>(chain[0]);
}

// start + the sum over i < n of x[i] * rows[i], for kVecs vectors of a row.
template <class T, int kVecs>
SIGLIN_INLINE void row_sums(const T* x, index_t n, const T* rows, index_t stride,
                            Vec<T> (&z)[kVecs]) {
    for (index_t i = 0; i < n; ++i, rows += stride) {
        const Vec<T> xi = broadcast(x[i]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            z[v] = fma(xi, load(rows + v * kLanes<T>), z[v]);
        }
    }
}

// body(v, Vec[count]) for groups of four vectors (their chains overlap), then one by
// one.
template <class T, class Body>
SIGLIN_INLINE void for_each_group(int vecs, Body body) {
    int v = 0;
    for (; v + 4 <= vecs; v += 4) {
        body(v, static_cast<Vec<T>(*)[4]>(nullptr));
    }
    for (; v < vecs; ++v) {
        body(v, static_cast<Vec<T>(*)[1]>(nullptr));
    }
}

// rows[i] += x[i] * change, for n rows of `vecs` vectors.
template <class T>
SIGLIN_INLINE void add_outer(T* rows, const T* x, index_t n, const T* change, T factor,
                             int vecs) {
    constexpr int L = kLanes<T>;
    const index_t stride = vecs * L;
    for (int v = 0; v < vecs; ++v) {
        const Vec<T> step = broadcast(factor) * load(change + v * L);
        T* row = rows + v * L;
        for (index_t i = 0; i < n; ++i, row += stride) {
            store(row, fma(broadcast(x[i]), step, load(row)));
        }
    }
}

template <class T>
class Descent {
  public:
    static constexpr int L = kLanes<T>;

    explicit Descent(const DescentArgs<T>& args)
        : args_(args), last_(args.count - 1), minus_lr_(-args.lr) {
        T* next = args.scratch;
        const auto take = [&](index_t n) {
            T* p = next;
            next += n;
            return p;
        };
        for (index_t l = 0; l <= last_; ++l) {
            const RowLayer& layer = args.layers[l];
            DescentLayer<T>& d = layers_[l];
            d.vecs = vecs_of<T>(layer.n_out);
            d.across_vecs = vecs_of<T>(layer.n_in);
            const index_t row = d.vecs * L;
            d.w = layer.n_out > 1 ? take(layer.n_in * row) : nullptr;
            d.across = l > 0 || layer.n_out == 1 ? take(layer.n_out * d.across_vecs * L)
                                                 : nullptr;
            d.b = take(row);
            d.existing = take(row);
            d.a = take(row);
            d.derivative = take(row);
            d.dz = take(row);
        }
        for (T* p = args.scratch; p < next; p += L) {
            store(p, Vec<T>{});
        }
        x_ = take(vecs_of<T>(args.layers[0].n_in) * L);
        store(x_ + (vecs_of<T>(args.layers[0].n_in) - 1) * L, Vec<T>{});
        copy_parameters();
        for (index_t l = 0; l <= last_; ++l) {
            for (index_t j = 0; j < args.layers[l].n_out; ++j) {
                layers_[l].existing[j] = T(1);
            }
        }
        outputs_ = next;
    }

    bool run() {
        for (index_t s = 0; s < args_.steps; ++s) {
            step(s);
        }
        return finish();
    }

  private:
    // visit(padded, param, n) for each row of parameters, as it lies here and there.
    template <class Visit>
    SIGLIN_INLINE void for_each_row(Visit visit) {
        for (index_t l = 0; l <= last_; ++l) {
            const RowLayer& layer = args_.layers[l];
            const DescentLayer<T>& d = layers_[l];
            T* w = args_.params + layer.w;
            if (d.w == nullptr) {
                visit(d.across, w, layer.n_in);
            } else {
                for (index_t i = 0; i < layer.n_in; ++i) {
                    visit(d.w + i * d.vecs * L, w + i * layer.n_out, layer.n_out);
                }
            }
            if (layer.b >= 0) {
                visit(d.b, args_.params + layer.b, layer.n_out);
            }
        }
    }

    void copy_parameters() {
        for_each_row([](T* padded, const T* param, index_t n) SIGLIN_LAMBDA_INLINE {
            for_each_block<T>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
                store(padded + i, load(param + i, lanes));
            });
        });
        for (index_t l = 0; l <= last_; ++l) {
            const RowLayer& layer = args_.layers[l];
            const DescentLayer<T>& d = layers_[l];
            const index_t stride = d.across_vecs * L;
            const T* w = args_.params + layer.w;
            if (d.w == nullptr || d.across == nullptr) {
                continue;
            }
            for (index_t j = 0; j < layer.n_out; ++j) {
                for (index_t i = 0; i < layer.n_in; ++i) {
                    d.across[j * stride + i] = w[i * layer.n_out + j];
                }
            }
        }
    }

    // Pre-activations of layer l from its input, vector by vector.
    template <class Use>
    SIGLIN_INLINE void pre_activations(index_t l, const T* x, Use use) {
        const RowLayer& layer = args_.layers[l];
        const DescentLayer<T>& d = layers_[l];
        if (layer.n_out == 1) {
            use(0, broadcast(d.b[0] + row_dot(x, d.across, d.across_vecs)));
            return;
        }
        for_each_group<T>(d.vecs, [&](int first, auto* group) SIGLIN_LAMBDA_INLINE {
            constexpr int kVecs = sizeof(*group) / sizeof(Vec<T>);
            Vec<T> z[kVecs];
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                z[v] = load(d.b + (first + v) * L);
            }
            row_sums(x, layer.n_in, d.w + first * L, d.vecs * L, z);
#pragma GCC unroll 4
            for (int v = 0; v < kVecs; ++v) {
                use(first + v, z[v]);
            }
        });
    }

    SIGLIN_INLINE void step(index_t s) {
        const index_t row = args_.order == nullptr ? s : args_.order[s];
        const T* first = args_.x.data + row * args_.x.stride;
        const T* t = args_.t.data + row * args_.t.stride;
        if (layers_[0].w == nullptr) {  // whole vectors
            for_each_block<T>(args_.layers[0].n_in, [&](index_t i, auto lanes) {
                store(x_ + i, load(first + i, lanes));
            });
            first = x_;
        }
        const T* x = first;
        for (index_t l = 0; l < last_; ++l) {
            const DescentLayer<T>& d = layers_[l];
            if (args_.layers[l].activation == Activation::sigmoid) {
                pre_activations(l, x, [&](int v, Vec<T> z) SIGLIN_LAMBDA_INLINE {
                    quick_sigmoid(d, v, z);
                });
            } else {
                activation(l, x);
            }
            x = d.a;
        }
        output(s, x, t);
        for (index_t l = last_; l >= 0; --l) {
            backward(l, l == 0 ? first : layers_[l - 1].a);
        }
    }

    SIGLIN_INLINE void quick_sigmoid(const DescentLayer<T>& d, int v, Vec<T> z) {
        const QuickSigmoid<T> s = quick_sigmoid_parts<T>(z, load(d.existing + v * L));
        store(d.a + v * L, s.value);
        store(d.derivative + v * L, s.rest * s.value);
    }

    // Outputs and derivatives of layer l; not in the one pass over its vectors, which
    // would be compiled for every activation.
    void activation(index_t l, const T* x) {
        const RowLayer& layer = args_.layers[l];
        const DescentLayer<T>& d = layers_[l];
        pre_activations(l, x, [&](int v, Vec<T> z) SIGLIN_LAMBDA_INLINE {
            if (layer.n_out == 1) {
                store(d.a, z, OneLane{});
            } else {
                store(d.a + v * L, z);
            }
        });
        if (layer.activation == Activation::sigmoid) {
            for (int v = 0; v < d.vecs; ++v) {
                quick_sigmoid(d, v, load(d.a + v * L));
            }
        } else {
            activate<T>(layer.activation, d.a, d.a, d.derivative, layer.n_out);
        }
    }

    // The last layer's dz, and what the loss of this step is computed from.
    SIGLIN_INLINE void output(index_t s, const T* x, const T* t) {
        const index_t n_out = args_.layers[last_].n_out;
        const DescentLayer<T>& d = layers_[last_];
        T* kept = outputs_ + s * n_out;
        const auto lanes_at = [&](int v, auto body) SIGLIN_LAMBDA_INLINE {
            if (const index_t left = n_out - v * L; left >= L) {
                body(AllLanes{});
            } else if (n_out == 1) {
                body(OneLane{});
            } else {
                body(first_lanes<T>(left));
            }
        };
        if (args_.loss.kind == Loss::bce) {
            pre_activations(last_, x, [&](int v, Vec<T> z) SIGLIN_LAMBDA_INLINE {
                lanes_at(v, [&](auto lanes) SIGLIN_LAMBDA_INLINE {
                    store(d.dz + v * L,
                          quick_sigmoid_minus<T>(z, load(t + v * L, lanes),
                                                 load(d.existing + v * L)));
                    store(kept + v * L, z, lanes);
                });
            });
        } else if (args_.loss.kind == Loss::squared_error) {
            activation(last_, x);
            for_each_block<T>(n_out, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
                const Vec<T> difference = load(d.a + j) - load(t + j, lanes);
                store(d.dz + j, difference * load(d.derivative + j));
                store(kept + j, difference, lanes);
            });
        } else if (args_.loss.kind == Loss::cross_entropy) {
            pre_activations(last_, x, [&](int v, Vec<T> z) SIGLIN_LAMBDA_INLINE {
                store(d.dz + v * L, z);
            });
            args_.losses[s] = cross_entropy_row<T>(d.dz, t, n_out, T(1));
        } else {
            pre_activations(last_, x, [&](int v, Vec<T> z) SIGLIN_LAMBDA_INLINE {
                store(d.dz + v * L, z * load(d.existing + v * L));
            });
            const bool logits = from_logits(args_.loss.kind);
            if (!logits) {
                activate<T>(args_.layers[last_].activation, d.dz, d.dz, d.derivative,
                            n_out);
            }
            args_.losses[s] =
                loss_gradient<T>({args_.loss, d.dz, logits ? nullptr : d.derivative, t,
                                  1, n_out, T(1), true});
        }
    }

    // dx from the weights as they were, then the layer's update.
    SIGLIN_INLINE void backward(index_t l, const T* x) {
        const RowLayer& layer = args_.layers[l];
        const DescentLayer<T>& d = layers_[l];
        if (l > 0) {
            const DescentLayer<T>& before = layers_[l - 1];
            for_each_group<T>(
                d.across_vecs, [&](int first, auto* group) SIGLIN_LAMBDA_INLINE {
                    constexpr int kVecs = sizeof(*group) / sizeof(Vec<T>);
                    Vec<T> dx[kVecs] = {};
                    row_sums(d.dz, layer.n_out, d.across + first * L, d.across_vecs * L,
                             dx);
#pragma GCC unroll 4
                    for (int v = 0; v < kVecs; ++v) {
                        const index_t at = (first + v) * L;
                        store(before.dz + at, dx[v] * load(before.derivative + at));
                    }
                });
        }
        if (d.across != nullptr) {
            for (index_t k = 0; k < layer.n_out; ++k) {
                const Vec<T> step = broadcast(minus_lr_ * d.dz[k]);
                T* row = d.across + k * d.across_vecs * L;
                for (int v = 0; v < d.across_vecs; ++v, row += L) {
                    store(row, fma(load(x + v * L), step, load(row)));
                }
            }
        }
        if (d.w != nullptr) {
            add_outer(d.w, x, layer.n_in, d.dz, minus_lr_, d.vecs);
        }
        if (layer.b >= 0) {
            for (int v = 0; v < d.vecs; ++v) {
                store(d.b + v * L,
                      fma(broadcast(minus_lr_), load(d.dz + v * L), load(d.b + v * L)));
            }
        }
    }

    // The losses of all steps; and whether every one and every parameter is finite, in
    // which case the parameters go back.
    bool finish() {
        const index_t n_out = args_.layers[last_].n_out;
        if (args_.loss.kind == Loss::bce || args_.loss.kind == Loss::squared_error) {
            losses_from_outputs(args_, n_out, outputs_);
        }
        Vec<T> zero = {};  // times a finite number
        for_each_row([&](const T* padded, const T*, index_t n) SIGLIN_LAMBDA_INLINE {
            for (index_t i = 0; i < n; i += L) {
                zero += load(padded + i) * broadcast(T(0));
            }
        });
        if (!(losses_are_finite(args_) && sum<T>(zero) == T(0))) {
            return false;
        }
        for_each_row([](const T* padded, T* param, index_t n) SIGLIN_LAMBDA_INLINE {
            for_each_block<T>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
                store(param + i, load(padded + i), lanes);
            });
        });
        return true;
    }

    const DescentArgs<T>& args_;
    index_t last_;
    T minus_lr_;
    DescentLayer<T> layers_[kDescentLayers];
    T* x_ = nullptr;
    T* outputs_ = nullptr;
};

// The contract is DescentArgs'.
template <class T>
bool row_descent(const DescentArgs<T>& args) {
    if (TwoLayerDescent<T>::serves(args)) {
        if (TwoLayerDescent<T>(args).run()) {
            return true;
        }
        if (args.steps > 1) {
            return false;  // which bits a step has is for itself to say
        }
    }
    return Descent<T>(args).run();
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
