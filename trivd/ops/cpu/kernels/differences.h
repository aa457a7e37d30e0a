// Pooled differences of all pairs of channels, for Dynamic ConvLSTM: trivd/ops/differences.py.
#pragma once
#include "vectors.h"

namespace {

struct Pairs {
    int64_t samples, channels, places, cells;  // places: of a pooling window; cells: windows of all feature maps

    int64_t map() const { return places * cells; }
};

// now and before (samples, channels, places, cells) -> result (samples, channels of before, channels of now, cells).
template <class T>
void pooled_differences(const T* now, const T* before, T* result, const Pairs& s, int threads) {
    parallel(s.samples * s.channels, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const T *subtracted = before + row * s.map(), *maps = now + row / s.channels * s.channels * s.map();
            for (int64_t i = 0; i < s.channels; ++i) {
                const T* map = maps + i * s.map();
                T* out = result + (row * s.channels + i) * s.cells;
                each_chunk<T>(0, s.cells, [&](int64_t c, int64_t width) {
                    Lanes<T> most = load(map + c, width) - load(subtracted + c, width);
                    for (int64_t at = c + s.cells; at < s.map(); at += s.cells) {
                        const Lanes<T> difference = load(map + at, width) - load(subtracted + at, width);
                        most = difference > most ? difference : most;
                    }
                    store(out + c, most <= 0 ? Lanes<T>{} : most, width);
                });
            }
        }
    });
}

// The gradient goes to the first place that has the largest difference, if it is positive.
template <class T>
void pooled_differences_backward(const T* gradient, const T* now, const T* before, Value<T>* for_now,
                                 Value<T>* for_before, const Pairs& s, int threads) {
    parallel(s.samples, threads, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin * s.channels; row < end * s.channels; ++row) {
            const int64_t first = row / s.channels * s.channels * s.map();  // of the sample's maps
            const T* subtracted = before + row * s.map();
            Value<T>* for_subtracted = for_before + row * s.map();
            for (int64_t i = 0; i < s.channels; ++i) {
                const T *map = now + first + i * s.map(), *outer = gradient + (row * s.channels + i) * s.cells;
                Value<T>* for_map = for_now + first + i * s.map();
                for (int64_t c = 0; c < s.cells; c += WIDTH<T>) {
                    const int64_t width = std::min<int64_t>(WIDTH<T>, s.cells - c);
                    Lanes<T> most = load(map + c, width) - load(subtracted + c, width), place = {};
                    for (int64_t p = 1; p < s.places; ++p) {
                        const int64_t at = p * s.cells + c;
                        const Lanes<T> difference = load(map + at, width) - load(subtracted + at, width);
                        place = difference > most ? Lanes<T>{} + Value<T>(p) : place;
                        most = difference > most ? difference : most;
                    }
                    const Lanes<T> passed = most <= 0 ? Lanes<T>{} : load(outer + c, width);
                    for (int64_t p = 0; p < s.places; ++p) {
                        const int64_t at = p * s.cells + c;
                        const Lanes<T> share = place == Value<T>(p) ? passed : Lanes<T>{};
                        store(for_map + at, load(for_map + at, width) + share, width);
                        store(for_subtracted + at, load(for_subtracted + at, width) - share, width);
                    }
                }
            }
        }
    });
}

}  // namespace
