// CPU kernels, each the counterpart of a plain form in Python that says what it computes. Features are channels_last:
// rows of positions. Built and called by trivd/ops/cpu/library.py.
#include "differences.h"
#include "normalize.h"
#include "pointwise.h"
#include "warp.h"

#define FOR_TYPE(T, NAME)                                                                                              \
    extern "C" void activate_##NAME(const T* raw, const T* given, T* const* parts, const int64_t* channels,            \
                                    const int64_t* activations, int64_t count, int64_t rows, int threads) {            \
        activate_parts<T>(raw, given, parts, channels, activations, count, rows, threads);                             \
    }                                                                                                                  \
    extern "C" void activate_backward_##NAME(const T* const* gradients, const T* const* parts, T* result,              \
                                             const int64_t* channels, const int64_t* activations, int64_t count,       \
                                             int64_t rows, int threads) {                                              \
        activate_parts_backward<T>(gradients, parts, result, channels, activations, count, rows, threads);             \
    }                                                                                                                  \
    extern "C" void mix_##NAME(const T* content, const T* past, const T* gate, T* result, int64_t count,               \
                               int threads) {                                                                          \
        mix<T>(content, past, gate, result, count, threads);                                                           \
    }                                                                                                                  \
    extern "C" void mix_backward_##NAME(const T* gradient, const T* content, const T* past, const T* gate,             \
                                        T* for_content, T* for_past, T* for_gate, int64_t count, int threads) {        \
        mix_backward<T>(gradient, content, past, gate, for_content, for_past, for_gate, count, threads);               \
    }                                                                                                                  \
    extern "C" void statistics_##NAME(const T* x, Value<T>* mean, Value<T>* variance, const Frames* frames,             \
                                      int threads) {                                                                   \
        statistics<T>(x, mean, variance, *frames, threads);                                                            \
    }                                                                                                                  \
    extern "C" void normalize_##NAME(const T* x, const Value<T>* mean, const Value<T>* gain, const Value<T>* offset,    \
                                     T* y, const Frames* frames, int threads) {                                        \
        normalize<T>(x, mean, gain, offset, y, *frames, threads);                                                      \
    }                                                                                                                  \
    extern "C" void normalize_backward_##NAME(const T* gradient, const T* x, const T* y, const Value<T>* mean,         \
                                              const Value<T>* rstd, const Value<T>* scale, const Value<T>* shared,     \
                                              const Value<T>* projection, T* for_x, const Frames* frames,              \
                                              int threads) {                                                           \
        normalize_backward<T>(gradient, x, y, mean, rstd, scale, shared, projection, for_x, *frames, threads);         \
    }                                                                                                                  \
    extern "C" void normalize_sums_##NAME(const T* gradient, const T* x, const T* y, const Value<T>* mean,             \
                                          const Value<T>* rstd, Value<T>* for_scale, Value<T>* for_offset,             \
                                          const Frames* frames, int threads) {                                         \
        normalize_sums<T>(gradient, x, y, mean, rstd, for_scale, for_offset, *frames, threads);                        \
    }                                                                                                                  \
    extern "C" void pooled_differences_##NAME(const T* now, const T* before, T* result, const Pairs* pairs,             \
                                              int threads) {                                                           \
        pooled_differences<T>(now, before, result, *pairs, threads);                                                   \
    }                                                                                                                  \
    extern "C" void pooled_differences_backward_##NAME(const T* gradient, const T* now, const T* before,               \
                                                       Value<T>* for_now, Value<T>* for_before, const Pairs* pairs,    \
                                                       int threads) {                                                  \
        pooled_differences_backward<T>(gradient, now, before, for_now, for_before, *pairs, threads);                   \
    }                                                                                                                  \
    extern "C" void softmax_##NAME(const T* x, T* result, int64_t rows, int64_t width, int threads) {                  \
        softmax<T>(x, result, rows, width, threads);                                                                   \
    }                                                                                                                  \
    extern "C" void softmax_backward_##NAME(const T* gradient, const T* y, T* result, int64_t rows, int64_t width,     \
                                            int threads) {                                                             \
        softmax_backward<T>(gradient, y, result, rows, width, threads);                                                \
    }                                                                                                                  \
    extern "C" void warp_##NAME(const T* h, const T* weights, T* result, const Shape* shape, int threads) {            \
        warp<T>(h, weights, result, *shape, threads);                                                                  \
    }                                                                                                                  \
    extern "C" void warp_backward_##NAME(const T* gradient, const T* h, const T* weights, T* for_h, T* for_weights,    \
                                         const Shape* shape, int threads) {                                            \
        warp_backward<T>(gradient, h, weights, for_h, for_weights, *shape, threads);                                   \
    }
FOR_TYPE(float, float32)
FOR_TYPE(double, float64)
FOR_TYPE(bfloat16, bfloat16)
