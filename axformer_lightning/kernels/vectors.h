// Vectors by the extensions of GCC and Clang: the same source is AVX-512, AVX2, SSE or NEON, whatever -march says.

#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
constexpr int W = 16, TILE = 16;  // lanes; vectors that are summed at once, so that they stay in registers
#elif defined(__AVX__)
constexpr int W = 8, TILE = 8;
#elif defined(__aarch64__)
constexpr int W = 4, TILE = 16;
#else
constexpr int W = 4, TILE = 8;
#endif

typedef float Vec __attribute__((vector_size(4 * W)));
typedef int32_t Ints __attribute__((vector_size(4 * W)));  // also what a comparison gives: -1 or 0 in each lane
typedef float Anywhere __attribute__((vector_size(4 * W), aligned(4), may_alias));

static inline Vec load(const float* at) { return *(const Anywhere*)at; }
static inline void store(float* at, Vec x) { *(Anywhere*)at = x; }
static inline Vec all(float x) { return Vec{} + x; }
static inline Ints all(int32_t x) { return Ints{} + x; }
static inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
static inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }

static inline unsigned bits(Ints mask) {  // lane r -> bit r
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif defined(__AVX__)
  return _mm256_movemask_ps((__m256)mask);
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)mask);
#elif defined(__aarch64__)
  const uint32_t of_lane[] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)mask, vld1q_u32(of_lane)));
#else
  unsigned found = 0;
  for (int r = 0; r < W; ++r) found |= unsigned(mask[r] & 1) << r;
  return found;
#endif
}

static inline Vec exponential(Vec x) {  // of x <= 0: relative error 2e-7, 0 below -87, NaN stays
  const Ints tiny = x < all(-87.f);
  x = tiny ? all(-87.f) : x;
  const Vec shift = all(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number, which is then in the low bits
  const Vec shifted = x * 1.44269504f + shift, n = shifted - shift;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.f);
  return tiny ? Vec{} : (Vec)((Ints)p + ((Ints)shifted << 23));
}

// Floats in order as whole numbers in order: their middle is a float between them as long as there is one.
static inline Ints ordered(Vec x) { return (Ints)x ^ (((Ints)x >> 31) & 0x7fffffff); }
static inline Vec unordered(Ints x) { return (Vec)(x ^ ((x >> 31) & 0x7fffffff)); }
