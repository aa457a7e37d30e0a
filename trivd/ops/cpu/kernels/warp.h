// Warping, Eq 11: trivd/ops/warp.py.
#pragma once
#include "vectors.h"

namespace {

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
