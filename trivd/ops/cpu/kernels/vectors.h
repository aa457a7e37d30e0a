// A cache line of values at a time, in float32 (float64 for float64), and threads: what all kernels are made of.
#pragma once
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

constexpr int MOST_TAPS = 15 * 15;  // as in library.py

}  // namespace
