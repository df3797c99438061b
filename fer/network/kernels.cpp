// A block's activation and 3x3 pooling, and the first block's convolution, in one pass over memory.
//
// PyTorch's operators write every intermediate result out and read it back, which on a processor
// takes longer than the arithmetic. Here the rows of a convolution's output stay in the nearest
// cache until they are pooled. Tensors are channels-last; channels are taken 16 at a time, one
// vector of floats each. All arithmetic is float32, also where tensors are bfloat16.

#include <cstdint>
#include <cstring>

// As in kernels.py.
struct Geometry {
    int32_t images, channels, height, width;  // of the convolution's output
    int32_t stride, max, bfloat16, threads;
    float slope;

    int pooled_height() const { return (height - 3) / stride + 1; }
    int pooled_width() const { return (width - 3) / stride + 1; }
    int groups() const { return (channels + 15) / 16; }
    // How many rows and columns the pooling windows reach.
    int rows() const { return (pooled_height() - 1) * stride + 3; }
    int columns() const { return (pooled_width() - 1) * stride + 3; }
};

namespace {

constexpr int LANES = 16;
typedef float V __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t H __attribute__((vector_size(32)));

constexpr int SIDE = 48, MARGIN = 1, KERNEL = 5, TAPS = KERNEL * KERNEL;
constexpr int PADDED = SIDE + 2 * MARGIN, WIDEST = PADDED - KERNEL + 1;
constexpr int MOST_POOLED = WIDEST - 2;
// Sums over images are formed in parts of this many, so that they do not depend on the threads.
constexpr int PART = 8;

// The 16 elements at `from`; those from `end` on are zero.
template <class Lanes, class T>
Lanes read(const T* from, const T* end) {
    Lanes lanes{};
    if (from + LANES <= end) std::memcpy(&lanes, from, sizeof lanes);
    else std::memcpy(&lanes, from, (end - from) * sizeof(T));
    return lanes;
}

template <class Lanes, class T>
void write(Lanes lanes, T* to, const T* end) {
    if (to + LANES <= end) std::memcpy(to, &lanes, sizeof lanes);
    else std::memcpy(to, &lanes, (end - to) * sizeof(T));
}

V load(const float* from, const float* end) { return read<V>(from, end); }

V load(const uint16_t* from, const uint16_t* end) {
    U bits = __builtin_convertvector(read<H>(from, end), U) << 16;
    V values;
    std::memcpy(&values, &bits, sizeof values);
    return values;
}

void store(V values, float* to, const float* end) { write(values, to, end); }

void store(V values, uint16_t* to, const uint16_t* end) {
    U bits;
    std::memcpy(&bits, &values, sizeof bits);
    U rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to the nearest, ties to even
    I number = values == values;
    write(__builtin_convertvector(number ? rounded : U{} + 0x7fc0, H), to, end);
}

V activate(V x, float slope) { return x > 0.0f ? x : x * slope; }

// Rows of the first convolution's output, computed from the images.
struct Convolution {
    const float *images, *weight, *bias;  // [images, SIDE, SIDE], [channels, TAPS], [channels]
    float image[PADDED][PADDED] = {};
    V taps[TAPS] = {}, offset = {};

    void open(const Geometry& block, int number, int channel) {
        std::memset(image, 0, sizeof image);
        for (int y = 0; y < SIDE; y++)
            std::memcpy(&image[y + MARGIN][MARGIN], images + (int64_t(number) * SIDE + y) * SIDE,
                        SIDE * sizeof(float));
        std::memset(taps, 0, sizeof taps);
        offset = V{};
        for (int lane = 0; lane < LANES && channel + lane < block.channels; lane++) {
            offset[lane] = bias[channel + lane];
            for (int tap = 0; tap < TAPS; tap++)
                taps[tap][lane] = weight[(channel + lane) * TAPS + tap];
        }
    }

    void row(const Geometry&, int y, V* out) const {
        constexpr int TOGETHER = 15;  // pixels whose sums are in registers at once
        static_assert((WIDEST - 1) % TOGETHER == 0, "the windows reach all but the last column");
        for (int x = 0; x < WIDEST - 1; x += TOGETHER) {
            V sums[TOGETHER];
            for (V& sum : sums) sum = offset;
            for (int tap = 0; tap < TAPS; tap++) {
                const float* pixel = &image[y + tap / KERNEL][x + tap % KERNEL];
                for (int i = 0; i < TOGETHER; i++) sums[i] += pixel[i] * taps[tap];
            }
            for (int i = 0; i < TOGETHER; i++) out[x + i] = sums[i];
        }
    }
};

// Rows of a tensor [images, height, width, channels].
template <class T>
struct Features {
    const T* features;
    const T *first = nullptr, *end = nullptr;

    void open(const Geometry& block, int number, int channel) {
        int64_t size = int64_t(block.height) * block.width * block.channels;
        first = features + number * size + channel;
        end = features + (number + 1) * size;
    }

    void row(const Geometry& block, int y, V* out) const {
        const T* from = first + y * block.width * block.channels;
        for (int x = 0; x < block.columns(); x++) out[x] = load(from + x * block.channels, end);
    }
};

// The greatest of several values and its place; the first of equal ones.
struct Greatest {
    V value;
    I place;

    void meet(V other, I there) {
        I more = (other > value) | (other != other);  // what is no number stays none
        value = more ? other : value;
        place = more ? there : place;
    }
};

// `output` [images, pooled height, pooled width, channels]; with `kept` also what the gradient of
// a max pooling needs: the value before the activation, and its place 0..8 in the window. Both
// are [images, groups of LANES channels, pooled height, pooled width, LANES].
template <class Rows, class T>
void forward(const Geometry& block, const Rows& source, T* output, T* kept, uint16_t* places) {
    const int width = block.pooled_width(), stride = block.stride;
    const int64_t area = int64_t(block.pooled_height()) * width, size = area * block.channels;
    // With a negative slope the activation cannot wait until after the maximum.
    const bool early = !block.max || block.slope < 0;
#pragma omp parallel for num_threads(block.threads) schedule(static)
    for (int image = 0; image < block.images; image++) {
        Rows rows = source;
        for (int group = 0; group < block.groups(); group++) {
            const int channel = group * LANES;
            rows.open(block, image, channel);
            V before[3][WIDEST], after[WIDEST], sums[3][MOST_POOLED];
            Greatest greatest[3][MOST_POOLED];
            T* out = output + image * size;
            int64_t here = (int64_t(image) * block.groups() + group) * area * LANES;
            for (int i = 0, next = 0; i < block.pooled_height(); i++) {
                for (; next < i * stride + 3; next++) {
                    V* values = before[next % 3];
                    rows.row(block, next, values);
                    if (early) {
                        for (int x = 0; x < block.columns(); x++)
                            after[x] = activate(values[x], block.slope);
                        values = after;
                    }
                    for (int j = 0; j < width; j++, values += stride) {
                        if (block.max) {
                            Greatest best{values[0], I{}};
                            best.meet(values[1], I{} + 1);
                            best.meet(values[2], I{} + 2);
                            greatest[next % 3][j] = best;
                        } else {
                            sums[next % 3][j] = values[0] + values[1] + values[2];
                        }
                    }
                }
                const int a = i * stride % 3, b = (i * stride + 1) % 3, c = (i * stride + 2) % 3;
                for (int j = 0; j < width; j++, out += block.channels, here += LANES) {
                    if (!block.max) {
                        V sum = sums[a][j] + sums[b][j] + sums[c][j];
                        store(sum * (1.0f / 9), out + channel, out + block.channels);
                        continue;
                    }
                    Greatest best = greatest[a][j];
                    best.meet(greatest[b][j].value, greatest[b][j].place + 3);
                    best.meet(greatest[c][j].value, greatest[c][j].place + 6);
                    V x = best.value;
                    store(early ? x : activate(x, block.slope), out + channel,
                          out + block.channels);
                    if (!kept) continue;
                    if (early)
                        for (int lane = 0; lane < LANES; lane++) {
                            int y = i * stride + best.place[lane] / 3;
                            x[lane] = before[y % 3][j * stride + best.place[lane] % 3][lane];
                        }
                    store(x, kept + here, kept + here + LANES);
                    write(__builtin_convertvector(best.place, H), places + here,
                          places + here + LANES);
                }
            }
        }
    }
}

// The convolution's output gradient, row by row, becomes gradients of its taps and bias.
struct IntoWeights {
    static constexpr int SUMS = TAPS + 1;
    V sums[SUMS];

    void open(const Geometry&, int, int) {}

    void row(const Geometry& block, const Convolution& rows, int y, const V* gradient) {
        V taps[TAPS], bias = sums[TAPS];
        for (int tap = 0; tap < TAPS; tap++) taps[tap] = sums[tap];
        for (int x = 0; x < block.columns(); x++) {
            bias += gradient[x];
#pragma GCC unroll 25
            for (int tap = 0; tap < TAPS; tap++)
                taps[tap] += rows.image[y + tap / KERNEL][x + tap % KERNEL] * gradient[x];
        }
        for (int tap = 0; tap < TAPS; tap++) sums[tap] = taps[tap];
        sums[TAPS] = bias;
    }
};

// ... or is written out, into a tensor of zeros.
template <class T>
struct IntoFeatures {
    static constexpr int SUMS = 0;
    T* features;
    T* image = nullptr;
    int channel = 0;
    V* sums = nullptr;

    void open(const Geometry& block, int number, int at) {
        image = features + int64_t(number) * block.height * block.width * block.channels;
        channel = at;
    }

    void row(const Geometry& block, const Features<T>&, int y, const V* gradient) {
        T* to = image + y * block.width * block.channels;
        for (int x = 0; x < block.columns(); x++, to += block.channels)
            store(gradient[x], to + channel, to + block.channels);
    }
};

// `parts` [parts of PART images, SUMS and the slope's gradient, channels].
template <class Rows, class Sink, class T>
void backward(const Geometry& block, const Rows& source, const Sink& target, const T* gradients,
              const T* kept, const uint16_t* places, float* parts) {
    const int height = block.pooled_height(), width = block.pooled_width();
    const int area = height * width;
    const int64_t size = int64_t(area) * block.channels;
    const int count = (block.images + PART - 1) / PART;
#pragma omp parallel for num_threads(block.threads) schedule(static)
    for (int part = 0; part < count; part++) {
        Rows rows = source;
        Sink sink = target;
        for (int group = 0; group < block.groups(); group++) {
            const int channel = group * LANES;
            V slope{};
            for (int sum = 0; sum < Sink::SUMS; sum++) sink.sums[sum] = V{};
            const int last = (part + 1) * PART;
            for (int image = part * PART; image < last && image < block.images; image++) {
                rows.open(block, image, channel);
                sink.open(block, image, channel);
                V pooled[MOST_POOLED * MOST_POOLED];
                const T *from = gradients + image * size, *end = from + size;
                const int64_t saved = (int64_t(image) * block.groups() + group) * area * LANES;
                for (int at = 0; at < area; at++) {
                    V gradient = load(from + at * block.channels + channel, end);
                    if (block.max) {
                        const T* here = kept + saved + at * LANES;
                        V x = load(here, here + LANES);
                        slope += x > 0.0f ? V{} : x * gradient;
                        gradient = x > 0.0f ? gradient : gradient * block.slope;
                    } else {
                        gradient *= 1.0f / 9;
                    }
                    pooled[at] = gradient;
                }
                for (int y = 0; y < block.rows(); y++) {
                    V gradient[WIDEST] = {}, x[WIDEST];
                    for (int i = y / block.stride; i >= 0 && y - i * block.stride < 3; i--) {
                        if (i >= height) continue;
                        I row = I{} + 3 * (y - i * block.stride);
                        for (int j = 0; j < width; j++) {
                            V part = pooled[i * width + j], *to = gradient + j * block.stride;
                            if (block.max) {
                                const uint16_t* at = places + saved + (i * width + j) * LANES;
                                I place = __builtin_convertvector(read<H>(at, at + LANES), I) - row;
                                for (int dx = 0; dx < 3; dx++)
                                    to[dx] += place == dx ? part : V{};
                            } else {
                                for (int dx = 0; dx < 3; dx++) to[dx] += part;
                            }
                        }
                    }
                    if (!block.max) {
                        rows.row(block, y, x);
                        for (int c = 0; c < block.columns(); c++) {
                            slope += x[c] > 0.0f ? V{} : x[c] * gradient[c];
                            gradient[c] = x[c] > 0.0f ? gradient[c] : gradient[c] * block.slope;
                        }
                    }
                    sink.row(block, rows, y, gradient);
                }
            }
            float* out = parts + int64_t(part) * (Sink::SUMS + 1) * block.channels + channel;
            const int lanes = block.channels - channel < LANES ? block.channels - channel : LANES;
            for (int sum = 0; sum < Sink::SUMS; sum++, out += block.channels)
                std::memcpy(out, &sink.sums[sum], lanes * sizeof(float));
            std::memcpy(out, &slope, lanes * sizeof(float));
        }
    }
}

}  // namespace

extern "C" {

void convolved_forward(const Geometry* block, const float* images, const float* weight,
                       const float* bias, void* output, void* kept, uint16_t* places) {
    Convolution rows{images, weight, bias};
    if (block->bfloat16)
        forward(*block, rows, (uint16_t*)output, (uint16_t*)kept, places);
    else
        forward(*block, rows, (float*)output, (float*)kept, places);
}

void convolved_backward(const Geometry* block, const float* images, const float* weight,
                        const float* bias, const void* gradients, const void* kept,
                        const uint16_t* places, float* parts) {
    Convolution rows{images, weight, bias};
    IntoWeights sink;
    if (block->bfloat16)
        backward(*block, rows, sink, (const uint16_t*)gradients, (const uint16_t*)kept, places, parts);
    else
        backward(*block, rows, sink, (const float*)gradients, (const float*)kept, places, parts);
}

void pooled_forward(const Geometry* block, const void* features, void* output, void* kept,
                    uint16_t* places) {
    if (block->bfloat16)
        forward(*block, Features<uint16_t>{(const uint16_t*)features}, (uint16_t*)output,
                (uint16_t*)kept, places);
    else
        forward(*block, Features<float>{(const float*)features}, (float*)output, (float*)kept,
                places);
}

void pooled_backward(const Geometry* block, const void* features, const void* gradients,
                     const void* kept, const uint16_t* places, void* into, float* parts) {
    if (block->bfloat16)
        backward(*block, Features<uint16_t>{(const uint16_t*)features},
                 IntoFeatures<uint16_t>{(uint16_t*)into}, (const uint16_t*)gradients,
                 (const uint16_t*)kept, places, parts);
    else
        backward(*block, Features<float>{(const float*)features},
                 IntoFeatures<float>{(float*)into}, (const float*)gradients, (const float*)kept,
                 places, parts);
}
}
