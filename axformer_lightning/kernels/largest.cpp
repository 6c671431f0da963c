// Which are the k largest values of each row, on a CPU; plain C interface, no headers but the compiler's.
//
// Floats of any type are compared as whole numbers in the same order. The k-th largest is found by counting how many are at
// least t, for a few values of t: without sorting, in loops that compilers turn into vectors.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "quantile.h"

struct Float32 {
  typedef int32_t Bits;
  static constexpr int32_t MAGNITUDE = 0x7fffffff, INFINITE = 0x7f800000;
};
struct BFloat16 {
  typedef int16_t Bits;
  static constexpr int32_t MAGNITUDE = 0x7fff, INFINITE = 0x7f80;
};
struct Float16 {
  typedef int16_t Bits;
  static constexpr int32_t MAGNITUDE = 0x7fff, INFINITE = 0x7c00;
};

// In the order of the floats; zero and minus zero are equal, NaN is the largest of all.
template <class F>
static inline int32_t ordered(typename F::Bits bits) {
  const int32_t x = bits, size = x & F::MAGNITUDE, signed_size = x < 0 ? -size : size;
  return size > F::INFINITE ? F::MAGNITUDE : signed_size;
}

static inline int32_t count(const int32_t* order, int n, int32_t t) {
  int32_t found = 0;
  for (int i = 0; i < n; ++i) found += order[i] >= t;
  return found;
}

struct Choice {
  int32_t least;   // what is larger is among the k largest,
  int32_t equals;  // and of what equals it the first so many
};

// 0 < k < n. More than k are at least `low`, and fewer than k are at least `high`.
static Choice choose(const int32_t* order, int n, int k) {
  int32_t least = INT32_MAX, most = INT32_MIN;
  for (int i = 0; i < n; ++i) least = std::min(least, order[i]), most = std::max(most, order[i]);
  int32_t number = 0;  // of what is above the least: masked keys are there, far below all others
  float sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const float x = order[i] > least ? order[i] * 0x1p-20f : 0.f;
    number += order[i] > least, sum += x, squares += x * x;
  }
  if (number <= k) return {least, k - number};
  const float mean = sum / number, deviation = std::sqrt(std::max(squares / number - mean * mean, 0.f));
  int64_t low = (int64_t)least + 1, high = (int64_t)most + 1;
  int32_t above_low = number, above_high = 0;
  double guess = 0x1p20 * ((double)mean + quantile((float)k / number) * deviation);
  for (int turn = 0; low + 1 < high; ++turn) {
    const int64_t t = (int64_t)std::min(std::max(guess, low + 1.), high - 1.);
    const int32_t c = count(order, n, (int32_t)t);
    if (c == k) return {(int32_t)(t - 1), 0};
    (c > k ? low : high) = t;
    (c > k ? above_low : above_high) = c;
    // As if they were spread evenly; every third time the middle, which is sure to end.
    const double share = (above_low - k + 0.25) / (above_low - above_high);
    guess = low + (high - low) * (turn % 3 == 2 ? 0.5 : std::min(std::max(share, 0.05), 0.95));
  }
  return {(int32_t)low, k - above_high};
}

// In place the compiler has to know it, or it reads and writes one number at a time.
template <class F, bool IN_PLACE>
static void rows(const void* values, void* kept, int64_t first, int64_t end, int n, int k, int32_t rest, int32_t* order) {
  typedef typename F::Bits Bits;
  for (int64_t row = first; row < end; ++row) {
    Bits* here = (Bits*)kept + row * n;
    const Bits* at = IN_PLACE ? here : (const Bits*)values + row * n;
    for (int i = 0; i < n; ++i) order[i] = ordered<F>(at[i]);
    const Choice choice = choose(order, n, k);
    int last = 0;  // up to here those that equal the least are kept
    for (int left = choice.equals; left; ++last) left -= order[last] == choice.least;
    for (int i = 0; i < last; ++i) here[i] = order[i] >= choice.least ? at[i] : (Bits)rest;
    for (int i = last; i < n; ++i) here[i] = order[i] > choice.least ? at[i] : (Bits)rest;
  }
}

template <class F>
static void chosen(const void* values, void* kept, int64_t first, int64_t end, int n, int k, int32_t rest, int32_t* order) {
  (values == kept ? rows<F, true> : rows<F, false>)(values, kept, first, end, n, k, rest, order);
}

// `values` and `kept`, (rows, n) of a type (0: float32, 1: bfloat16, 2: float16), are contiguous; 0 < k < n. What is not
// kept becomes the number whose bits `rest` are; both may be the same memory. Returns 0, or 1 where there is no memory.
extern "C" int axformer_keep_largest(const void* values, void* kept, int64_t type, int64_t num_rows, int64_t n, int64_t k,
                                     int64_t rest, int64_t threads) {
  constexpr int64_t AT_ONCE = 16;
  int failed = 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1) reduction(| : failed)
  {
    const std::unique_ptr<int32_t[]> order(new (std::nothrow) int32_t[n]);
    failed |= !order;
#pragma omp for schedule(static)
    for (int64_t first = 0; first < num_rows; first += AT_ONCE) {
      if (!order) continue;
      (type == 0 ? chosen<Float32> : type == 1 ? chosen<BFloat16> : chosen<Float16>)(
          values, kept, first, std::min(first + AT_ONCE, num_rows), (int)n, (int)k, (int32_t)rest, order.get());
    }
  }
  return failed;
}
