// Where a search for the k-th largest begins: as if what is searched were distributed normally.

#pragma once
#include <algorithm>
#include <cmath>

static inline float quantile(float share) {  // z that a share of a normal distribution exceeds; Abramowitz and Stegun 26.2.23
  const float p = std::min(share, 1 - share), t = std::sqrt(-2 * std::log(std::max(p, 1e-9f)));
  const float z = t - (2.515517f + t * (0.802853f + t * 0.010328f)) / (1 + t * (1.432788f + t * (0.189269f + t * 0.001308f)));
  return share < 0.5f ? z : -z;
}
