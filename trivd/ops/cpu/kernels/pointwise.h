// Activations, mixtures and softmax: trivd/ops/gates.py.
#pragma once
#include "vectors.h"

namespace {

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

}  // namespace
