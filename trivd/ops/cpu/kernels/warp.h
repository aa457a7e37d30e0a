// Warping, Eq 11: trivd/ops/warp.py.
#pragma once
#include "vectors.h"

namespace {

struct Shape {
    int64_t batch, channels, height, width, size;  // size: k of the warping kernels
    int64_t replicate;                             // whether the border is repeated outside, in place of zeros
    int64_t of_sample, of_tap, of_row, of_column;  // strides of the weights
};

// A tap of a position and what it reads, as offsets from what belongs to the position itself. Taps that read zeros are
// left out; others read the nearest neighbour that lies inside.
struct Neighbour {
    int64_t features;  // of the neighbour
    int64_t tap;       // the position's weight for it
    int64_t opposite;  // its weight for the position, if it lies inside itself
};

inline int64_t clamp(int64_t value, int64_t size) { return std::min(std::max<int64_t>(value, 0), size - 1); }

// Calls work(its features' offset, its weights' offset, neighbours, how many) for each position of image rows
// [begin, end).
template <class F>
inline void each_position(const Shape& s, int64_t begin, int64_t end, F work) {
    const int64_t reach = s.size / 2;
    Neighbour neighbours[MOST_TAPS];
    for (int64_t line = begin; line < end; ++line) {
        const int64_t row = line % s.height, sample = line / s.height;
        const int64_t first_m = s.replicate ? 0 : std::max<int64_t>(0, reach - row);
        const int64_t last_m = s.replicate ? s.size : std::min(s.size, s.height + reach - row);
        int count = 0;
        for (int64_t column = 0; column < s.width; ++column) {
            if (column <= reach || column >= s.width - reach) {  // between them all columns have the same neighbours
                const int64_t first_n = s.replicate ? 0 : std::max<int64_t>(0, reach - column);
                const int64_t last_n = s.replicate ? s.size : std::min(s.size, s.width + reach - column);
                count = 0;
                for (int64_t m = first_m; m < last_m; ++m)
                    for (int64_t n = first_n; n < last_n; ++n) {
                        const int64_t down = clamp(row + m - reach, s.height) - row;
                        const int64_t right = clamp(column + n - reach, s.width) - column, tap = m * s.size + n;
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

// Where the border is repeated, the readers of a position there: one for each neighbour, whose scale is the sum of its
// weights for the position. Offsets as in Neighbour; returns how many there are.
template <class T>
inline int border_readers(const Shape& s, int64_t row, int64_t column, const T* weights, int64_t* features,
                          Value<T>* scales) {
    const int64_t reach = s.size / 2;
    int count = 0;
    for (int64_t i = std::max<int64_t>(0, row - reach); i <= std::min(s.height - 1, row + reach); ++i)
        for (int64_t j = std::max<int64_t>(0, column - reach); j <= std::min(s.width - 1, column + reach); ++j) {
            const int64_t m = row - i + reach, n = column - j + reach;  // the tap that reads it, and those beyond
            const int64_t first_m = row == 0 ? 0 : m, last_m = row == s.height - 1 ? s.size - 1 : m;
            const int64_t first_n = column == 0 ? 0 : n, last_n = column == s.width - 1 ? s.size - 1 : n;
            const T* reader = weights + (i - row) * s.of_row + (j - column) * s.of_column;
            Value<T> scale = 0;
            for (int64_t p = first_m; p <= last_m; ++p)
                for (int64_t q = first_n; q <= last_n; ++q) scale += scalar(reader + (p * s.size + q) * s.of_tap);
            features[count] = ((i - row) * s.width + j - column) * s.channels;
            scales[count++] = scale;
        }
    return count;
}

// Both gradients of Eq 11; that of h is gathered too, each position from those that read it, through opposite taps.
template <class T>
void warp_backward(const T* gradient, const T* h, const T* weights, T* for_h, T* for_weights, const Shape& s,
                   int threads) {
    parallel(s.batch * s.height, threads, [&](int64_t begin, int64_t end) {
        each_position(s, begin, end, [&](int64_t at, int64_t own, const Neighbour* neighbours, int count) {
            const T* rows[MOST_TAPS];
            Value<T> scales[MOST_TAPS];
            const int64_t position = at / s.channels, column = position % s.width;
            const int64_t row = position / s.width % s.height, reach = s.size / 2;
            int readers = count;
            if (s.replicate && (std::min(row, column) < reach || row >= s.height - reach || column >= s.width - reach)) {
                int64_t features[MOST_TAPS];
                readers = border_readers(s, row, column, weights + own, features, scales);
                for (int q = 0; q < readers; ++q) rows[q] = gradient + at + features[q];
            } else {
                for (int q = 0; q < count; ++q) {
                    rows[q] = gradient + at + neighbours[q].features;
                    scales[q] = scalar(weights + own + neighbours[q].opposite);
                }
            }
            weighted_sum(rows, scales, readers, for_h + at, s.channels);

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
