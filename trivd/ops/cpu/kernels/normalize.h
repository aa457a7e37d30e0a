// Normalisation of each time step, scale and offset of each sample, and ReLU: trivd/ops/normalize.py.
#pragma once
#include <vector>

#include "vectors.h"

namespace {

struct Frames {
    int64_t frames, samples, positions, channels;

    int64_t rows() const { return samples * positions; }  // of a frame
};

constexpr int64_t BLOCK = 64;  // rows whose sum is taken apart: rounding does not add up, and they stay in the cache

// totals[i][c] += the sum over rows of the i-th of SUMS terms. term(row, first channel, width, sums) adds to sums.
template <int SUMS, class T, class F>
inline void add_rows(int64_t rows, int64_t channels, Value<T>* const (&totals)[SUMS], F term) {
    for (int64_t begin = 0; begin < rows; begin += BLOCK) {
        const int64_t end = std::min(rows, begin + BLOCK);
        for (int64_t c = 0; c < channels; c += WIDTH<T>) {
            const int64_t width = std::min<int64_t>(WIDTH<T>, channels - c);
            Lanes<T> even[SUMS] = {}, odd[SUMS] = {};  // two of each: an addition need not wait for the one before
            int64_t row = begin;
            for (; row + 1 < end; row += 2) {
                term(row, c, width, even);
                term(row + 1, c, width, odd);
            }
            if (row < end) term(row, c, width, even);
            for (int i = 0; i < SUMS; ++i)
                store(totals[i] + c, load(totals[i] + c, width) + even[i] + odd[i], width);
        }
    }
}

// x (frames, samples, positions, channels) -> mean and variance (frames, channels).
template <class T>
void statistics(const T* x, Value<T>* mean, Value<T>* variance, const Frames& s, int threads) {
    parallel(s.frames, threads, [&](int64_t begin, int64_t end) {
        for (int64_t frame = begin; frame < end; ++frame) {
            const T* rows = x + frame * s.rows() * s.channels;
            Value<T>*means[1] = {mean + frame * s.channels}, *variances[1] = {variance + frame * s.channels};
            std::fill_n(means[0], s.channels, Value<T>(0));
            std::fill_n(variances[0], s.channels, Value<T>(0));
            add_rows<1, T>(s.rows(), s.channels, means, [=](int64_t row, int64_t c, int64_t width, Lanes<T>* sums) {
                sums[0] += load(rows + row * s.channels + c, width);
            });
            for (int64_t c = 0; c < s.channels; ++c) means[0][c] /= s.rows();
            add_rows<1, T>(s.rows(), s.channels, variances, [=](int64_t row, int64_t c, int64_t width, Lanes<T>* sums) {
                const Lanes<T> centred = load(rows + row * s.channels + c, width) - load(means[0] + c, width);
                sums[0] += centred * centred;
            });
            for (int64_t c = 0; c < s.channels; ++c) variances[0][c] /= s.rows();
        }
    });
}

// relu((x - mean) gain + offset), with mean (frames, channels), gain (frames, samples, channels) and offset (samples,
// channels).
template <class T>
void normalize(const T* x, const Value<T>* mean, const Value<T>* gain, const Value<T>* offset, T* y, const Frames& s,
               int threads) {
    parallel(s.frames * s.samples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t picture = begin; picture < end; ++picture) {
            const Value<T>*means = mean + picture / s.samples * s.channels, *gains = gain + picture * s.channels;
            const Value<T>* offsets = offset + picture % s.samples * s.channels;
            for (int64_t row = picture * s.positions; row < (picture + 1) * s.positions; ++row) {
                const int64_t at = row * s.channels;
                each_chunk<T>(0, s.channels, [=](int64_t c, int64_t width) {
                    const Lanes<T> centred = load(x + at + c, width) - load(means + c, width);
                    const Lanes<T> value = centred * load(gains + c, width) + load(offsets + c, width);
                    store(y + at + c, value <= 0 ? Lanes<T>{} : value, width);
                });
            }
        }
    });
}

// What passed the ReLU of the gradient of y.
template <class T>
Lanes<T> passed(const T* gradient, const T* y, int64_t at, int64_t width) {
    return load(y + at, width) <= 0 ? Lanes<T>{} : load(gradient + at, width);
}

// From the gradient of y: those of scale and offset for each frame and sample, (frames, samples, channels).
template <class T>
void normalize_sums(const T* gradient, const T* x, const T* y, const Value<T>* mean, const Value<T>* rstd,
                    Value<T>* for_scale, Value<T>* for_offset, const Frames& s, int threads) {
    const int64_t channels = s.channels;
    parallel(s.frames * s.samples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t picture = begin; picture < end; ++picture) {
            const Value<T>*means = mean + picture / s.samples * channels, *rstds = rstd + picture / s.samples * channels;
            Value<T>* totals[2] = {for_offset + picture * channels, for_scale + picture * channels};
            for (Value<T>* total : totals) std::fill_n(total, channels, Value<T>(0));
            add_rows<2, T>(s.positions, channels, totals, [=](int64_t row, int64_t c, int64_t width, Lanes<T>* sums) {
                const int64_t at = (picture * s.positions + row) * channels + c;
                const Lanes<T> g = passed(gradient, y, at, width);
                sums[0] += g;
                sums[1] += g * ((load(x + at, width) - load(means + c, width)) * load(rstds + c, width));
            });
        }
    });
}

// From the gradient of y: that of x, rstd (scale g - shared - projection xhat); shared and projection (frames, channels).
template <class T>
void normalize_backward(const T* gradient, const T* x, const T* y, const Value<T>* mean, const Value<T>* rstd,
                        const Value<T>* scale, const Value<T>* shared, const Value<T>* projection, T* for_x,
                        const Frames& s, int threads) {
    const int64_t channels = s.channels;
    parallel(s.frames * s.samples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t picture = begin; picture < end; ++picture) {
            const int64_t frame = picture / s.samples * channels;
            const Value<T>*means = mean + frame, *rstds = rstd + frame, *shares = shared + frame;
            const Value<T>*projections = projection + frame, *scales = scale + picture % s.samples * channels;
            for (int64_t row = picture * s.positions; row < (picture + 1) * s.positions; ++row) {
                each_chunk<T>(0, channels, [=](int64_t c, int64_t width) {
                    const int64_t at = row * channels + c;
                    const Lanes<T> normalized = (load(x + at, width) - load(means + c, width)) * load(rstds + c, width);
                    const Lanes<T> across = load(projections + c, width) * normalized;
                    const Lanes<T> g = load(scales + c, width) * passed(gradient, y, at, width);
                    store(for_x + at, load(rstds + c, width) * (g - load(shares + c, width) - across), width);
                });
            }
        }
    });
}

}  // namespace
