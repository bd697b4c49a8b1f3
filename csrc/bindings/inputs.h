// The inputs of a network: a matrix, or rows in compressed sparse row form.
#pragma once

#include <initializer_list>
#include <optional>

#include "array.h"

namespace siglin {

// What Python calls CsrRows: the three arrays of CSR rows, checked once and held.
class CsrRows {
  public:
    CsrRows(py::array values, py::array columns, py::array starts, index_t cols);

    Argument values() const;
    index_t rows() const { return starts_.shape(0) - 1; }
    index_t cols() const { return cols_; }

    template <class T>
    SparseView<T> view() const {
        return {static_cast<const T*>(values_.data()),
                static_cast<const std::int32_t*>(columns_.data()),
                static_cast<const std::int64_t*>(starts_.data())};
    }

  private:
    py::array values_;
    py::array columns_;
    py::array starts_;
    index_t cols_;
};

// Checked inputs. The caller holds them.
class Inputs {
  public:
    explicit Inputs(const Argument& matrix) : argument_(matrix) {}
    Inputs(const CsrRows& sparse, const char* function);

    // The matrix, or the values.
    const Argument& argument() const { return argument_; }
    index_t rows() const {
        return sparse_ == nullptr ? argument_.rows() : sparse_->rows();
    }
    bool is_sparse() const { return sparse_ != nullptr; }

    // Of sparse rows, without data.
    template <class T>
    MatrixView<const T> matrix() const {
        return sparse_ == nullptr
                   ? view<T>(argument_)
                   : MatrixView<const T>{nullptr, sparse_->rows(), sparse_->cols(), 0};
    }
    template <class T>
    SparseView<T> sparse() const {
        return sparse_ == nullptr ? SparseView<T>{} : sparse_->view<T>();
    }

  private:
    Argument argument_;
    const CsrRows* sparse_ = nullptr;
};

}  // namespace siglin
