// Attention in which each query keeps its k largest weights, on a CPU; plain C interface, no headers but the compiler's.
//
// Queries stand side by side in the lanes of a vector, one block of W of them at a time. So all of softmax and the
// choice of keys is done lane by lane, without sorting: the k-th largest score is found by counting how many are at
// least t, for a few values of t. Scores of a block stay in the first cache.

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "quantile.h"
#include "vectors.h"

constexpr float MASKED = -FLT_MAX, HIDDEN = -1e30f;  // a score below HIDDEN is that of a masked key

struct Scores {
  const float* at;  // (n, W)
  int n;
  Vec most, least, mean, deviation;
  Ints valid;  // keys that are not masked
};

struct Choice {
  Vec least;      // keys with larger scores are kept,
  Ints equals;    // and of those with this very score the first so many
  unsigned tied;  // lanes in which that is not all of them
};

static inline Ints count(const Scores& scores, Vec t) {
  Ints c0{}, c1{}, c2{}, c3{};
  int i = 0;
  for (; i + 4 <= scores.n; i += 4) {
    const float* at = scores.at + i * W;
    c0 -= load(at) >= t, c1 -= load(at + W) >= t, c2 -= load(at + 2 * W) >= t, c3 -= load(at + 3 * W) >= t;
  }
  for (; i < scores.n; ++i) c0 -= load(scores.at + i * W) >= t;
  return (c0 + c1) + (c2 + c3);
}

// Keep exactly k in every lane that has more. The interval [low, high) always holds the k-th largest score.
static Choice choose(const Scores& scores, int32_t k, float z) {
  const Ints nothing_valid = scores.valid == 0;
  Ints open = (scores.valid > k) | nothing_valid;
  Vec low = scores.least, high = unordered(ordered(scores.most) + 1);
  Ints above_low = nothing_valid ? all(scores.n) : scores.valid, above_high{};
  Vec t = smaller(larger(scores.deviation * z + scores.mean, low), scores.most), found = all(-INFINITY);
  Ints equals{}, tied{};
  for (int turn = 0; turn < 64 && bits(open); ++turn) {
    const Ints c = count(scores, t), hit = open & (c == k), more = open & (c > k), fewer = open & (c < k);
    found = hit ? t : found;
    open &= ~hit;
    low = more ? t : low, above_low = more ? c : above_low;
    high = fewer ? t : high, above_high = fewer ? c : above_high;
    const Ints stuck = open & (ordered(low) + 1 >= ordered(high));  // no float is between them: equal scores
    found = stuck ? low : found, equals = stuck ? k - above_high : equals;
    tied |= stuck;
    open &= ~stuck;
    // As if scores were spread evenly; every third time the middle, and in the end that of the floats, which is sure to end.
    Vec share = __builtin_convertvector(above_low - k, Vec) + 0.25f;
    share = smaller(larger(share / __builtin_convertvector(above_low - above_high, Vec), all(0.05f)), all(0.95f));
    const Vec next = low + (high - low) * (turn % 3 == 2 ? all(0.5f) : share);
    const Ints a = ordered(low), b = ordered(high), inside = (next > low) & (next < high);
    t = inside & (turn < 24 ? -1 : 0) ? next : unordered((a & b) + ((a ^ b) >> 1));
  }
  return {found, equals, bits(tied)};
}

struct Mask {
  const void* at;
  int kind;  // 0: none, 1: bytes that are 0 where a key is masked, 2: floats that are added
  int64_t query, key;  // strides
  float operator()(int64_t offset) const {
    return kind == 1 ? (((const uint8_t*)at)[offset] ? 0.f : MASKED) : ((const float*)at)[offset];
  }
};

struct Head {
  const float *query, *key, *value;
  int64_t query_row, key_row, value_row;  // strides of a token
  float* out;
  int64_t out_row;
  int queries, keys, width, value_width, k;
  float scale;
  bool renormalize, same_mask;  // the same for all queries
  Mask mask;
};

static inline int64_t whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

static int64_t scratch_floats(int64_t keys, int64_t width, int64_t value_width) {
  return whole(keys, TILE) * (width + whole(value_width, W) + W + 3) + width * W + 64;
}

// FIXED is the width of a head where it is a common one: addresses are then constants, which is faster.
template <int FIXED>
static void attend(const Head& h, float* scratch) {
  const int D = FIXED ? FIXED : h.width, E = FIXED ? FIXED : (int)whole(h.value_width, W), rows = (int)whole(h.keys, TILE);
  float *scores = scratch, *query = scores + rows * W, *key = query + D * W, *value = key + rows * D;
  float* added = value + rows * E;
  int32_t *kept = (int32_t*)(added + rows), *lanes = kept + rows;
  int n = h.keys;
  if (h.mask.kind && h.same_mask) {
    for (int i = 0; i < h.keys; ++i) added[i] = h.mask(i * h.mask.key);
    while (n && added[n - 1] < HIDDEN) --n;  // padding at the end is not looked at,
    if (!n) n = h.keys;                      // unless there is nothing else
  }
  for (int i = 0; i < n; ++i) {
    std::memcpy(key + i * D, h.key + i * h.key_row, D * sizeof(float));
    std::memcpy(value + i * E, h.value + i * h.value_row, h.value_width * sizeof(float));
    std::fill(value + i * E + h.value_width, value + (i + 1) * E, 0.f);
  }
  std::fill(key + n * D, key + whole(n, TILE) * D, 0.f);  // not used, but what was there may be slow to compute with

  for (int first = 0; first < h.queries; first += W) {
    const int R = std::min(W, h.queries - first);
    for (int r = 0; r < W; ++r) {
      const float* row = h.query + (first + std::min(r, R - 1)) * h.query_row;  // idle lanes repeat the last query
      for (int d = 0; d < D; ++d) query[d * W + r] = row[d] * h.scale;
    }
    for (int j = 0; j < n; j += TILE) {
      Vec sum[TILE] = {};
      for (int d = 0; d < D; ++d) {
        const Vec q = load(query + d * W);
#pragma GCC unroll 16
        for (int i = 0; i < TILE; ++i) sum[i] += q * key[(j + i) * D + d];
      }
#pragma GCC unroll 16
      for (int i = 0; i < TILE; ++i) store(scores + (j + i) * W, sum[i]);
    }
    if (h.mask.kind && h.same_mask)
      for (int i = 0; i < n; ++i) store(scores + i * W, load(scores + i * W) + added[i]);
    else if (h.mask.kind)
      for (int i = 0; i < n; ++i)
        for (int r = 0; r < R; ++r) scores[i * W + r] += h.mask((first + r) * h.mask.query + i * h.mask.key);

    Scores all_of{scores, n, all(-INFINITY), all(INFINITY), {}, {}, {}};
    for (int i = 0; i < n; ++i) {
      const Vec x = load(scores + i * W);
      const Ints valid = x > HIDDEN;
      const Vec seen = valid ? x : Vec{};
      all_of.most = larger(x, all_of.most);
      all_of.least = smaller(valid ? x : all_of.least, all_of.least);
      all_of.mean += seen, all_of.deviation += seen * seen, all_of.valid -= valid;
    }
    const Vec number = larger(__builtin_convertvector(all_of.valid, Vec), all(1.f));
    all_of.mean /= number;
    all_of.deviation = larger(all_of.deviation / number - all_of.mean * all_of.mean, all(1e-12f));
    for (int r = 0; r < W; ++r) all_of.deviation[r] = std::sqrt(all_of.deviation[r]);
    all_of.least = all_of.valid == 0 ? all_of.most : all_of.least;

    Choice choice{all(-INFINITY), {}, 0};
    if (n > h.k) choice = choose(all_of, h.k, quantile((float)h.k / std::max<float>(all_of.valid[0], h.k + 1)));

    Vec total{}, total_kept{};
    Ints equals{};
    int num_kept = 0;
    for (int i = 0; i < n; ++i) {
      const Vec x = load(scores + i * W), e = exponential(x - all_of.most);
      Ints keep = x >= choice.least;
      if (__builtin_expect(choice.tied, 0)) {
        const Ints equal = (x == choice.least) & (choice.equals > 0);
        equals -= equal;
        keep &= ~equal | (equals <= choice.equals);
      }
      const Vec weight = keep ? e : Vec{};
      total += e, total_kept += weight;
      store(scores + i * W, weight);
      kept[num_kept] = i, lanes[num_kept] = bits(weight != Vec{});  // keys that no query of this block keeps are left out
      num_kept += lanes[num_kept] != 0;
    }
    // NaN among the scores makes all of the query NaN, as softmax does.
    float factor[W];
    store(factor, 1.f / (h.renormalize ? total_kept + total * 0.f : total));

    for (int d = 0; d < E; d += W)
      for (int r = 0; r < R; r += TILE) {
        Vec sum[TILE] = {};
        for (int x = 0; x < num_kept; ++x) {
          const Vec v = load(value + kept[x] * E + d);
          const float* weight = scores + kept[x] * W + r;
#pragma GCC unroll 16
          for (int i = 0; i < TILE && i < W; ++i) sum[i] += v * weight[i];
        }
        for (int i = 0; i < TILE && r + i < R; ++i) {
          const Vec context = sum[i] * factor[r + i];
          float* at = h.out + (first + r + i) * h.out_row + d;
          if (d + W <= h.value_width) store(at, context);
          else std::memcpy(at, &context, (h.value_width - d) * sizeof(float));
        }
      }
  }
}

static bool same_for_all_queries(const Mask& mask, int64_t queries, int64_t keys) {
  const int64_t size = mask.kind == 1 ? 1 : sizeof(float);
  const char* first = (const char*)mask.at;
  for (int64_t q = 1; q < queries && mask.kind && mask.query; ++q) {
    const char* row = first + q * mask.query * size;
    if (mask.key == 1 ? std::memcmp(row, first, keys * size) != 0 : true) return false;
  }
  return true;
}

struct Buffer {  // kept by its thread: memory that is given back and fetched again costs as much as the attention
  std::unique_ptr<char[]> memory;
  int64_t floats = 0;
  float* of(int64_t wanted) {
    if (wanted > floats) {
      memory.reset(new (std::nothrow) char[wanted * sizeof(float) + 64]);
      floats = memory ? wanted : 0;
    }
    return memory ? (float*)whole((intptr_t)memory.get(), 64) : nullptr;
  }
};

// Shapes and strides are counted in elements. The last dimension of query, key, value (B, H, tokens, width) is
// contiguous; out is (B, queries, H, value_width), contiguous. Returns 0, or 1 where there is no memory.
extern "C" int axformer_hard_attention(const float* query, const float* key, const float* value, const void* mask,
                                       float* out, const int64_t* shape, const int64_t* strides, int64_t mask_kind,
                                       int64_t k, float scale, int64_t renormalize, int64_t threads) {
  const int64_t B = shape[0], H = shape[1], Q = shape[2], K = shape[3], D = shape[4], E = shape[5];
  const int64_t *qs = strides, *ks = strides + 3, *vs = strides + 6, *ms = strides + 9;
  const int64_t floats = scratch_floats(K, D, E), mask_size = mask_kind == 1 ? 1 : sizeof(float);
  int failed = 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1) reduction(| : failed)
  {
    static thread_local Buffer buffer;
    float* scratch = buffer.of(floats);
    failed |= !scratch;
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < B * H; ++unit) {
      if (!scratch) continue;
      const int64_t b = unit / H, h = unit % H;
      const Mask here{(const char*)mask + (b * ms[0] + h * ms[1]) * mask_size, (int)mask_kind, ms[2], ms[3]};
      const Head head{query + b * qs[0] + h * qs[1], key + b * ks[0] + h * ks[1], value + b * vs[0] + h * vs[1],
                      qs[2], ks[2], vs[2], out + (b * Q * H + h) * E, H * E, (int)Q, (int)K, (int)D, (int)E, (int)k,
                      scale, renormalize != 0, same_for_all_queries(here, Q, K), here};
      (D == 32 && E == 32 ? attend<32> : D == 64 && E == 64 ? attend<64> : attend<0>)(head, scratch);
    }
  }
  return failed;
}
