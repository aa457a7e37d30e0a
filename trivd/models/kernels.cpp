// CPU kernels of the warping and the recurrent units, each the counterpart of a plain form in Python that says what it
// computes (trivd/models/warping.py, pointwise.py, deferred.py). Features are channels_last: rows of positions.
// Built and called by trivd/models/compiled.py. Sums are taken in float32 (float64 for float64).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

struct bfloat16 {
    uint16_t bits;
};

// A cache line of values in the type they are computed in; elementwise arithmetic is the compiler's.
template <class T>
struct Vector {
    using Value = T;
    typedef T Lanes __attribute__((vector_size(64)));
};
template <>
struct Vector<bfloat16> : Vector<float> {};

template <class T>
using Value = typename Vector<T>::Value;
template <class T>
using Lanes = typename Vector<T>::Lanes;
template <class T>
constexpr int WIDTH = 64 / sizeof(Value<T>);

using Floats = Lanes<float>;
using Doubles = Lanes<double>;
using Half = uint16_t __attribute__((vector_size(32)));
using Word = uint32_t __attribute__((vector_size(64)));

template <class T>
inline Lanes<T> load(const T* from) {
    Lanes<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <>
inline Lanes<bfloat16> load(const bfloat16* from) {
    Half bits;
    std::memcpy(&bits, from, sizeof bits);
#ifdef __AVX512F__  // compilers widen in two halves, through memory
    return (Lanes<bfloat16>)((Word)_mm512_cvtepu16_epi32((__m256i)bits) << 16);
#else
    return (Lanes<bfloat16>)(__builtin_convertvector(bits, Word) << 16);
#endif
}

template <class T>
inline void store(T* to, Lanes<T> x) {
    std::memcpy(to, &x, sizeof x);
}
template <>
inline void store(bfloat16* to, Lanes<bfloat16> x) {
#ifdef __AVX512BF16__
    Half half = (Half)_mm512_cvtneps_pbh((__m512)x);
#else
    Word bits = (Word)x;
    Word rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
    Half half = __builtin_convertvector(x == x ? rounded : (rounded & 0) + 0x7fc0, Half);
#endif
    std::memcpy(to, &half, sizeof half);
}

// The first `count` lanes, the others zero.
template <class T>
inline Lanes<T> load(const T* from, int64_t count) {
    if (count >= WIDTH<T>) return load(from);
    T part[WIDTH<T>] = {};
    for (int64_t i = 0; i < count; ++i) part[i] = from[i];
    return load(part);
}
template <class T>
inline void store(T* to, Lanes<T> x, int64_t count) {
    if (count >= WIDTH<T>) return store(to, x);
    T part[WIDTH<T>];
    store(part, x);
    for (int64_t i = 0; i < count; ++i) to[i] = part[i];
}

template <class L>
inline auto sum(L x) {
    auto total = x[0];
    for (unsigned i = 1; i < sizeof(L) / sizeof x[0]; ++i) total += x[i];
    return total;
}
template <class L>
inline auto largest(L x) {
    auto most = x[0];
    for (unsigned i = 1; i < sizeof(L) / sizeof x[0]; ++i) most = std::max(most, x[i]);
    return most;
}

#if defined __AVX512BW__ && defined __AVX512VL__
// The same where the instruction set has it, since compilers go through memory.
template <>
inline Floats load(const float* from, int64_t count) {
    return count >= 16 ? load(from) : (Floats)_mm512_maskz_loadu_ps((1u << count) - 1, from);
}
template <>
inline Floats load(const bfloat16* from, int64_t count) {
    if (count >= 16) return load(from);
    return (Floats)((Word)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((1u << count) - 1, from)) << 16);
}
template <>
inline void store(float* to, Floats x, int64_t count) {
    if (count >= 16) return store(to, x);
    _mm512_mask_storeu_ps(to, (1u << count) - 1, (__m512)x);
}
template <>
inline void store(bfloat16* to, Floats x, int64_t count) {
    bfloat16 part[16];
    store(count >= 16 ? to : part, x);
    if (count < 16) _mm256_mask_storeu_epi16(to, (1u << count) - 1, _mm256_loadu_si256((const __m256i*)part));
}
template <>
inline auto sum(Floats x) {
    return _mm512_reduce_add_ps((__m512)x);
}
template <>
inline auto largest(Floats x) {
    return _mm512_reduce_max_ps((__m512)x);
}
#endif

template <class T>
inline Value<T> scalar(const T* from) {
    return *from;
}
template <>
inline float scalar(const bfloat16* from) {
    uint32_t bits = uint32_t(from->bits) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
template <class T>
inline void put(T* to, Value<T> x) {
    *to = x;
}
template <>
inline void put(bfloat16* to, float x) {
    Half lowest;
    store(reinterpret_cast<bfloat16*>(&lowest), Lanes<bfloat16>{} + x);
    to->bits = lowest[0];
}

// Calls work(first channel, width) for all channels from `begin`, in chunks. The last chunk overlaps the one before it:
// only rows shorter than a chunk are loaded one by one. For work that may be done twice.
template <class T, class F>
inline void each_chunk(int64_t begin, int64_t channels, F work) {
    int64_t c = begin;
    for (; c + WIDTH<T> <= channels; c += WIDTH<T>) work(c, int64_t(WIDTH<T>));
    if (c < channels) {
        if (channels >= WIDTH<T>)
            work(channels - WIDTH<T>, int64_t(WIDTH<T>));
        else
            work(int64_t(0), channels);
    }
}

// Work of `count` independent items; one thread does not touch OpenMP, whose pool would have to be kept awake.
template <class F>
inline void parallel(int64_t count, int threads, F work) {
    if (threads <= 1) {
        work(int64_t(0), count);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; ++part) work(count * part / threads, count * (part + 1) / threads);
}

inline Floats exponential(Floats x) {
    x = x < -87.0f ? Floats{} - 87.0f : x;  // comparisons are false for NaN, which stays
    x = x > 88.0f ? Floats{} + 88.0f : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    Floats shifted = x * 1.44269504f + magic;
    Floats n = shifted - magic;
    Floats r = x - n * 0.693145752f - n * 1.42860677e-6f;  // |r| <= ln(2) / 2; ln(2) in two parts
    Floats p = r * (1.0f / 5040) + 1.0f / 720;  // Taylor's series, to 2e-8
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Word power = (((Word)shifted - 0x4b400000u) + 127u) << 23;
    return p * (Floats)power;
}
inline Doubles exponential(Doubles x) {
    for (int i = 0; i < 8; ++i) x[i] = std::exp(x[i]);
    return x;
}

inline Floats hyperbolic_tangent(Floats x) {
    Floats z = x * x;  // Lambert's continued fraction near zero, where the other form would cancel
    Floats near = x * (((z + 378.0f) * z + 17325.0f) * z + 135135.0f) /
                  (((z * 28.0f + 3150.0f) * z + 62370.0f) * z + 135135.0f);
    Floats far = 1.0f - 2.0f / (exponential(x + x) + 1.0f);
    return z < 1.0f ? near : far;
}
inline Doubles hyperbolic_tangent(Doubles x) {
    for (int i = 0; i < 8; ++i) x[i] = std::tanh(x[i]);
    return x;
}

enum Activation : int64_t { IDENTITY, RELU, SIGMOID, TANH };  // the order of pointwise.ACTIVATIONS

template <class L>
inline L activate(L x, int64_t activation) {
    switch (activation) {
        case RELU:
            return x <= 0 ? L{} : x;
        case SIGMOID:
            return 1 / (1 + exponential(-x));
        case TANH:
            return hyperbolic_tangent(x);
        default:
            return x;
    }
}
template <class L>
inline L slope(L y, int64_t activation) {  // of an activation whose result is y
    switch (activation) {
        case RELU:
            return y > 0 ? L{} + 1 : L{};
        case SIGMOID:
            return y * (1 - y);
        case TANH:
            return 1 - y * y;
        default:
            return L{} + 1;
    }
}

// raw (rows, all channels), given likewise or null -> parts (rows, channels[i]), each with its activation.
template <class T>
void activate_parts(const T* raw, const T* given, T* const* parts, const int64_t* channels, const int64_t* activations,
                    int64_t count, int64_t rows, int threads) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += channels[i];
    parallel(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            int64_t offset = row * total;
            for (int64_t i = 0; i < count; ++i) {
                T* part = parts[i] + row * channels[i];
                each_chunk<T>(0, channels[i], [&](int64_t c, int64_t width) {
                    Lanes<T> x = load(raw + offset + c, width);
                    if (given) x += load(given + offset + c, width);
                    store(part + c, activate(x, activations[i]), width);
                });
                offset += channels[i];
            }
        }
    });
}

// Gradients of the parts (null: zero) and the parts -> gradient of raw, and of given.
template <class T>
void activate_parts_backward(const T* const* gradients, const T* const* parts, T* result, const int64_t* channels,
                             const int64_t* activations, int64_t count, int64_t rows, int threads) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += channels[i];
    parallel(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            T* out = result + row * total;
            for (int64_t i = 0; i < count; ++i) {
                each_chunk<T>(0, channels[i], [&](int64_t c, int64_t width) {
                    const int64_t at = row * channels[i] + c;
                    Lanes<T> g = {};
                    if (gradients[i])
                        g = load(gradients[i] + at, width) * slope(load(parts[i] + at, width), activations[i]);
                    store(out + c, g, width);
                });
                out += channels[i];
            }
        }
    });
}

template <class T>
void mix(const T* content, const T* past, const T* gate, T* result, int64_t count, int threads) {
    parallel((count + WIDTH<T> - 1) / WIDTH<T>, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin * WIDTH<T>; i < end * WIDTH<T>; i += WIDTH<T>) {
            Lanes<T> c = load(content + i, count - i);
            store(result + i, c + load(gate + i, count - i) * (load(past + i, count - i) - c), count - i);
        }
    });
}

template <class T>
void mix_backward(const T* gradient, const T* content, const T* past, const T* gate, T* for_content, T* for_past,
                  T* for_gate, int64_t count, int threads) {
    parallel((count + WIDTH<T> - 1) / WIDTH<T>, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin * WIDTH<T>; i < end * WIDTH<T>; i += WIDTH<T>) {
            int64_t left = count - i;
            Lanes<T> g = load(gradient + i, left), u = load(gate + i, left);
            store(for_content + i, g * (1 - u), left);
            store(for_past + i, g * u, left);
            store(for_gate + i, g * (load(past + i, left) - load(content + i, left)), left);
        }
    });
}

constexpr int MOST_TAPS = 15 * 15;

// Over rows of at most MOST_TAPS values.
template <class T>
void softmax(const T* x, T* result, int64_t rows, int64_t width, int threads) {
    const Value<T> lowest = -std::numeric_limits<Value<T>>::infinity();
    parallel(rows, threads, [=](int64_t begin, int64_t end) {
        Lanes<T> number;
        for (int i = 0; i < WIDTH<T>; ++i) number[i] = i;
        for (int64_t at = begin * width; at < end * width; at += width) {
            Lanes<T> values[MOST_TAPS / WIDTH<T> + 1], most = Lanes<T>{} + lowest, total = {};
            int64_t chunks = 0;
            for (int64_t c = 0; c < width; c += WIDTH<T>) {
                const Lanes<T> value = load(x + at + c, width - c);
                values[chunks] = number < Value<T>(width - c) ? value : Lanes<T>{} + lowest;
                most = values[chunks] > most ? values[chunks] : most;
                ++chunks;
            }
            const Value<T> shift = largest(most);
            for (int64_t i = 0; i < chunks; ++i) {
                const Lanes<T> value = exponential(values[i] - shift);
                total += values[i] = number < Value<T>(width - i * WIDTH<T>) ? value : Lanes<T>{};
            }
            const Value<T> scale = 1 / sum(total);
            for (int64_t i = 0; i < chunks; ++i)
                store(result + at + i * WIDTH<T>, values[i] * scale, width - i * WIDTH<T>);
        }
    });
}

// From the gradient of the softmax y and y itself.
template <class T>
void softmax_backward(const T* gradient, const T* y, T* result, int64_t rows, int64_t width, int threads) {
    parallel(rows, threads, [=](int64_t begin, int64_t end) {
        for (int64_t at = begin * width; at < end * width; at += width) {
            Lanes<T> products = {};
            for (int64_t c = 0; c < width; c += WIDTH<T>)
                products += load(gradient + at + c, width - c) * load(y + at + c, width - c);
            const Value<T> mean = sum(products);
            for (int64_t c = 0; c < width; c += WIDTH<T>) {
                const Lanes<T> g = load(gradient + at + c, width - c);
                store(result + at + c, load(y + at + c, width - c) * (g - mean), width - c);
            }
        }
    });
}

struct Shape {
    int64_t batch, channels, height, width, size;  // size: k of the warping kernels
    int64_t of_sample, of_tap, of_row, of_column;  // strides of the weights
};

// A tap of a position whose neighbour lies inside, as offsets from what belongs to the position itself.
struct Neighbour {
    int64_t features;  // of the neighbour
    int64_t tap;       // the position's weight for it
    int64_t opposite;  // its weight for the position
};
// Calls work(its features' offset, its weights' offset, neighbours, how many) for each position of image rows
// [begin, end).
template <class F>
inline void each_position(const Shape& s, int64_t begin, int64_t end, F work) {
    const int64_t reach = s.size / 2;
    Neighbour neighbours[MOST_TAPS];
    for (int64_t line = begin; line < end; ++line) {
        const int64_t row = line % s.height, sample = line / s.height;
        const int64_t first_m = std::max<int64_t>(0, reach - row), last_m = std::min(s.size, s.height + reach - row);
        int count = 0;
        for (int64_t column = 0; column < s.width; ++column) {
            if (column <= reach || column >= s.width - reach) {  // between them all columns have the same neighbours
                const int64_t first_n = std::max<int64_t>(0, reach - column);
                const int64_t last_n = std::min(s.size, s.width + reach - column);
                count = 0;
                for (int64_t m = first_m; m < last_m; ++m)
                    for (int64_t n = first_n; n < last_n; ++n) {
                        const int64_t down = m - reach, right = n - reach, tap = m * s.size + n;
                        neighbours[count++] = {(down * s.width + right) * s.channels, tap * s.of_tap,
                                               down * s.of_row + right * s.of_column +
                                                   (s.size * s.size - 1 - tap) * s.of_tap};
                    }
            }
            work((line * s.width + column) * s.channels,
                 sample * s.of_sample + row * s.of_row + column * s.of_column, neighbours, count);
        }
    }
}

// Sum of scales[q] * rows[q] over q < COUNT, for all channels; COUNT 0 stands for `count`, which is not known beforehand.
template <int COUNT, class T>
inline void weighted_sum(const T* const* rows, const Value<T>* scales, int count, T* result, int64_t channels) {
    if (COUNT) count = COUNT;
    int64_t c = 0;
    for (; c + 2 * WIDTH<T> <= channels; c += 2 * WIDTH<T>) {
        Lanes<T> a = {}, b = {};
#pragma GCC unroll 9
        for (int q = 0; q < count; ++q) {
            a += scales[q] * load(rows[q] + c);
            b += scales[q] * load(rows[q] + c + WIDTH<T>);
        }
        store(result + c, a);
        store(result + c + WIDTH<T>, b);
    }
    each_chunk<T>(c, channels, [&](int64_t first, int64_t width) {
        Lanes<T> a = {};
        for (int q = 0; q < count; ++q) a += scales[q] * load(rows[q] + first, width);
        store(result + first, a, width);
    });
}

template <class T>
inline void weighted_sum(const T* const* rows, const Value<T>* scales, int count, T* result, int64_t channels) {
    if (count == 9)
        weighted_sum<9>(rows, scales, count, result, channels);
    else
        weighted_sum<0>(rows, scales, count, result, channels);
}

// Sums over all channels of x * rows[q], for each q.
template <int COUNT, class T>
inline void products(const T* x, const T* const* rows, int count, Value<T>* result, int64_t channels) {
    if (COUNT) count = COUNT;
    Lanes<T> sums[COUNT ? COUNT : MOST_TAPS];
    for (int q = 0; q < count; ++q) sums[q] = Lanes<T>{};
    int64_t done = 0;
    each_chunk<T>(0, channels, [&](int64_t first, int64_t width) {
        Lanes<T> factor = load(x + first, width);
        for (int64_t i = 0; first + i < done; ++i) factor[i] = 0;  // what the chunk before has summed
#pragma GCC unroll 9
        for (int q = 0; q < count; ++q) sums[q] += factor * load(rows[q] + first, width);
        done = first + width;
    });
    for (int q = 0; q < count; ++q) result[q] = sum(sums[q]);
}

// Eq 11.
template <class T>
void warp(const T* h, const T* weights, T* result, const Shape& s, int threads) {
    parallel(s.batch * s.height, threads, [&](int64_t begin, int64_t end) {
        each_position(s, begin, end, [&](int64_t at, int64_t own, const Neighbour* neighbours, int count) {
            const T* rows[MOST_TAPS];
            Value<T> scales[MOST_TAPS];
            for (int q = 0; q < count; ++q) {
                rows[q] = h + at + neighbours[q].features;
                scales[q] = scalar(weights + own + neighbours[q].tap);
            }
            weighted_sum(rows, scales, count, result + at, s.channels);
        });
    });
}

// Both gradients of Eq 11; that of h is gathered too, each position from those that read it, through opposite taps.
template <class T>
void warp_backward(const T* gradient, const T* h, const T* weights, T* for_h, T* for_weights, const Shape& s,
                   int threads) {
    parallel(s.batch * s.height, threads, [&](int64_t begin, int64_t end) {
        each_position(s, begin, end, [&](int64_t at, int64_t own, const Neighbour* neighbours, int count) {
            const T* rows[MOST_TAPS];
            Value<T> scales[MOST_TAPS];
            for (int q = 0; q < count; ++q) {
                rows[q] = gradient + at + neighbours[q].features;
                scales[q] = scalar(weights + own + neighbours[q].opposite);
            }
            weighted_sum(rows, scales, count, for_h + at, s.channels);

            for (int q = 0; q < count; ++q) rows[q] = h + at + neighbours[q].features;
            if (count == 9)
                products<9>(gradient + at, rows, count, scales, s.channels);
            else
                products<0>(gradient + at, rows, count, scales, s.channels);
            for (int64_t tap = 0; tap < s.size * s.size; ++tap) put(for_weights + own + tap * s.of_tap, 0);
            for (int q = 0; q < count; ++q) put(for_weights + own + neighbours[q].tap, scales[q]);
        });
    });
}

}  // namespace

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
