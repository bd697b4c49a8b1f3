# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The contender: the layer's operations as a careful Cython user writes them.

Typed memoryviews, fused types, no GIL, loops ordered so that the inner one runs along
rows in memory, and libc's exp. No blocking, no explicit SIMD, no threads. Shapes are
those of siglin: x (batch, n_in), w (n_in, n_out), b (n_out,), a and da (batch, n_out).
Arguments are not checked; cases.py passes only arrays that fit.
"""

import numpy as np

from libc.math cimport exp, expf, fabs, log1p

ctypedef fused real:
    float
    double


cdef inline real sigmoid_one(real z) noexcept nogil:
    if real is float:
        return 1 / (1 + expf(-z))
    else:
        return 1 / (1 + exp(-z))


cdef inline double bce_from_logit(double z, double t) noexcept nogil:
    """-t log(s) - (1 - t) log(1 - s) of s = sigmoid(z), without the cancellation."""
    return (z if z > 0 else 0.0) - t * z + log1p(exp(-fabs(z)))


# The products, on pointers to contiguous rows, shared by the calls and by fit.


cdef void affine(
    const real* x, const real* w, const real* b, real* z,
    Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
) noexcept nogil:
    """z = x @ w + b"""
    cdef Py_ssize_t i, k, j
    cdef real x_ik
    for i in range(batch):
        for j in range(n_out):
            z[i * n_out + j] = b[j]
        for k in range(n_in):
            x_ik = x[i * n_in + k]
            for j in range(n_out):
                z[i * n_out + j] += x_ik * w[k * n_out + j]


cdef void add_weight_gradient(
    const real* x, const real* dz, real* dw, real* db, real factor,
    Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
) noexcept nogil:
    """dw += factor * x.T @ dz;  db += factor * dz.sum(axis=0)"""
    cdef Py_ssize_t i, k, j
    cdef real scaled
    for i in range(batch):
        for k in range(n_in):
            scaled = factor * x[i * n_in + k]
            for j in range(n_out):
                dw[k * n_out + j] += scaled * dz[i * n_out + j]
        for j in range(n_out):
            db[j] += factor * dz[i * n_out + j]


cdef void input_gradient(
    const real* dz, const real* w, real* dx,
    Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
) noexcept nogil:
    """dx = dz @ w.T"""
    cdef Py_ssize_t i, k, j
    cdef real total
    for i in range(batch):
        for k in range(n_in):
            total = 0
            for j in range(n_out):
                total += dz[i * n_out + j] * w[k * n_out + j]
            dx[i * n_in + k] = total


cdef void through_sigmoid(
    const real* a, const real* da, real* dz, Py_ssize_t n
) noexcept nogil:
    """dz = da * a * (1 - a); dz may be da"""
    cdef Py_ssize_t i
    for i in range(n):
        dz[i] = da[i] * a[i] * (1 - a[i])


def sigmoid(const real[::1] z, real[::1] out):
    cdef Py_ssize_t i
    with nogil:
        for i in range(z.shape[0]):
            out[i] = sigmoid_one(z[i])


def forward(
    const real[:, ::1] x, const real[:, ::1] w, const real[::1] b, real[:, ::1] out
):
    cdef Py_ssize_t batch = x.shape[0], n_in = x.shape[1], n_out = w.shape[1]
    cdef Py_ssize_t i
    cdef real* a = &out[0, 0]
    with nogil:
        affine(&x[0, 0], &w[0, 0], &b[0], a, batch, n_in, n_out)
        for i in range(batch * n_out):
            a[i] = sigmoid_one(a[i])


def backward(
    const real[:, ::1] x,
    const real[:, ::1] w,
    const real[:, ::1] a,
    const real[:, ::1] da,
    real[:, ::1] dz,
    real[:, ::1] dx,
    real[:, ::1] dw,
    real[::1] db,
):
    """dz is scratch of da's shape; dw and db arrive as zeros."""
    cdef Py_ssize_t batch = x.shape[0], n_in = x.shape[1], n_out = w.shape[1]
    with nogil:
        through_sigmoid(&a[0, 0], &da[0, 0], &dz[0, 0], batch * n_out)
        add_weight_gradient(
            &x[0, 0], &dz[0, 0], &dw[0, 0], &db[0], <real> 1, batch, n_in, n_out
        )
        input_gradient(&dz[0, 0], &w[0, 0], &dx[0, 0], batch, n_in, n_out)


def backward_update(
    const real[:, ::1] x,
    real[:, ::1] w,
    real[::1] b,
    const real[:, ::1] a,
    const real[:, ::1] da,
    real lr,
    real[:, ::1] dz,
    real[:, ::1] dx,
):
    """dx of the weights as they came, then w -= lr * dw and b -= lr * db in place."""
    cdef Py_ssize_t batch = x.shape[0], n_in = x.shape[1], n_out = w.shape[1]
    with nogil:
        through_sigmoid(&a[0, 0], &da[0, 0], &dz[0, 0], batch * n_out)
        input_gradient(&dz[0, 0], &w[0, 0], &dx[0, 0], batch, n_in, n_out)
        add_weight_gradient(
            &x[0, 0], &dz[0, 0], &w[0, 0], &b[0], -lr, batch, n_in, n_out
        )


def update(real[::1] param, const real[::1] grad, real lr):
    cdef Py_ssize_t i
    with nogil:
        for i in range(param.shape[0]):
            param[i] -= lr * grad[i]


def fit(
    const Py_ssize_t[::1] sizes,
    real[::1] params,
    const real[:, ::1] x,
    const real[:, ::1] t,
    real lr,
    double[::1] losses,
):
    """Take len(losses) full-batch steps on binary cross-entropy, losses[s] before step s.

    params holds, layer by layer, w row by row and then b, as siglin.Network.params does.
    """
    cdef Py_ssize_t n_layers = sizes.shape[0] - 1, rows = x.shape[0]
    cdef Py_ssize_t widest = np.max(sizes[1:])
    # Layer l's output starts at a[a_at[l]], its weights at params[w_at[l]].
    a_at_array = np.zeros(n_layers + 1, dtype=np.intp)
    w_at_array = np.zeros(n_layers + 1, dtype=np.intp)
    cdef Py_ssize_t[::1] a_at = a_at_array, w_at = w_at_array
    cdef Py_ssize_t l, i, step, n_in, n_out, n_last = sizes[n_layers]
    for l in range(n_layers):
        a_at[l + 1] = a_at[l] + rows * sizes[l + 1]
        w_at[l + 1] = w_at[l] + (sizes[l] + 1) * sizes[l + 1]
    dtype = np.float32 if real is float else np.float64
    cdef real[::1] outputs = np.empty(a_at[n_layers], dtype=dtype)
    cdef real[::1] gradients = np.empty(2 * rows * widest, dtype=dtype)
    cdef real* a
    cdef real* last = &outputs[a_at[n_layers - 1]]
    cdef real* dz = &gradients[0]
    cdef real* da = &gradients[rows * widest]
    cdef real* w
    cdef const real* source
    cdef const real* target = &t[0, 0]
    cdef real scale = <real> 1 / <real> rows
    cdef double total
    with nogil:
        for step in range(losses.shape[0]):
            source = &x[0, 0]
            for l in range(n_layers):
                n_in, n_out = sizes[l], sizes[l + 1]
                a = &outputs[a_at[l]]
                w = &params[w_at[l]]
                affine(source, w, w + n_in * n_out, a, rows, n_in, n_out)
                if l < n_layers - 1:
                    for i in range(rows * n_out):
                        a[i] = sigmoid_one(a[i])
                source = a
            total = 0
            for i in range(rows * n_last):
                total += bce_from_logit(last[i], target[i])
                dz[i] = (sigmoid_one(last[i]) - target[i]) * scale
            losses[step] = total / rows
            for l in range(n_layers - 1, -1, -1):
                n_in, n_out = sizes[l], sizes[l + 1]
                w = &params[w_at[l]]
                source = &x[0, 0]
                if l > 0:
                    source = &outputs[a_at[l - 1]]
                    input_gradient(dz, w, da, rows, n_in, n_out)
                add_weight_gradient(
                    source, dz, w, w + n_in * n_out, -lr, rows, n_in, n_out
                )
                if l > 0:
                    through_sigmoid(source, da, dz, rows * n_in)
