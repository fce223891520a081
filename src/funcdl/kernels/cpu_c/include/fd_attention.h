/* Attention, softmax(scale Q K^T + bias) V, without the matrix of weights in memory.
 *
 * Threads share tasks of one head and some queries. A task goes through the keys in blocks: the
 * block's logits stand in a tile, become weights there (relative to the largest logit so far), and
 * are multiplied by the values; when a larger logit comes, what was added up is scaled down ("online
 * softmax": M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao
 * and others, "FlashAttention", 2022). The gradient computes each block's weights again from the
 * largest logit and the total of each query.
 *
 * Which thread does a task changes nothing, and how the work is cut depends on sizes only: results
 * have the same bits for any number of threads. */
#ifndef FD_ATTENTION_H
#define FD_ATTENTION_H

#include <string.h>

#include "fd_gemm.h"
#include "fd_math.h"
#include "fd_memory.h"
#include "fd_random.h"
#include "fd_runtime.h"

/* Layouts: queries and results [batch, queries, heads, size], keys and values [batch, keys, groups,
 * size], statistics [batch, heads, queries]. `groups` divides `heads`. */
typedef struct {
  int64_t batch, queries, keys, heads, groups, size;
  double scale;
  /* How many positions before and after its own a query sees keys at; after: 0 if causal. */
  int64_t before, after;
  /* Elements between neighbours in batch, heads, queries and keys; 0 where all share one. */
  int64_t bias_strides[4], mask_strides[4];
  /* Into how many tasks the gradient cuts the queries of a head. */
  int64_t chunks;
  /* Dropout leaves weights whose random word is at least so large, and scales them. */
  uint32_t least_kept;
  double kept_scale;
} fd_attention_sizes;

/* Queries and keys of a block. Queries are a multiple of every micro-tile's columns, and few, to
 * waste little where positions hide keys; the tiles of a block stay in the cache. */
enum { FD_ATTENTION_QUERIES = 32, FD_ATTENTION_KEYS = 192 };
/* Members of a parallel region take tasks in turn: causal ones grow along a head. */
#define FD_ATTENTION_SHARE _Pragma("omp parallel for num_threads(fd_num_threads) schedule(static, 1)")

/* The key of the random words of a head, of uint32 [batch, heads, 2]. */
FD_INLINE const uint32_t *fd_attention_key(const fd_attention_sizes *at, const uint32_t *keys,
                                           int64_t batch, int64_t head) {
  return keys ? keys + (batch * at->heads + head) * 2 : NULL;
}

FD_INLINE int64_t fd_attention_min(int64_t a, int64_t b) { return a < b ? a : b; }
FD_INLINE int64_t fd_attention_max(int64_t a, int64_t b) { return a > b ? a : b; }
FD_INLINE int64_t fd_attention_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

/* The keys from `begin` to before `end` are those that position and lengths leave to a query. */
static inline __attribute__((unused)) void fd_attention_seen(
    const fd_attention_sizes *at, const int32_t *query_lengths, const int32_t *key_lengths,
    int64_t batch, int64_t query, int64_t *begin, int64_t *end) {
  int64_t keys = key_lengths ? fd_attention_min(key_lengths[batch], at->keys) : at->keys;
  *begin = fd_attention_max(query - at->before, 0);
  *end = fd_attention_max(fd_attention_min(query + at->after + 1, keys), 0);
  if (query_lengths && query >= query_lengths[batch]) *end = 0;
}

/* The same for any of `count` queries, of the `keys` keys from `key`: none if end <= begin. */
static inline __attribute__((unused)) void fd_attention_any_seen(
    const fd_attention_sizes *at, const int32_t *query_lengths, const int32_t *key_lengths,
    int64_t batch, int64_t query, int64_t count, int64_t key, int64_t keys, int64_t *begin,
    int64_t *end) {
  *begin = key + keys;
  *end = key;
  for (int64_t i = 0; i < count; i++) {
    int64_t first, last;
    fd_attention_seen(at, query_lengths, key_lengths, batch, query + i, &first, &last);
    first = fd_attention_max(first, key);
    last = fd_attention_min(last, key + keys);
    if (first >= last) continue;
    *begin = fd_attention_min(*begin, first);
    *end = fd_attention_max(*end, last);
  }
}

/* Memory of a task, if there is any; cleared where not all columns of its panels are written. */
static inline __attribute__((unused)) void *fd_attention_memory(int64_t bytes, int clear,
                                                                fd_missing *missing) {
  void *memory = fd_take(bytes, missing);
  return clear && memory != NULL ? memset(memory, 0, (size_t)bytes) : memory;
}

#define FD_T float
#define FD_NAME(name) name##_f32
#define FD_NR FD_NR_F32
#define FD_INF FD_INF_F32
#include "fd_attention_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_INF

#define FD_T double
#define FD_NAME(name) name##_f64
#define FD_NR FD_NR_F64
#define FD_INF FD_INF_F64
#include "fd_attention_typed.h"
#undef FD_T
#undef FD_NAME
#undef FD_NR
#undef FD_INF

/* Arrays of half types as float, and back. */
#define FD_CONVERT(name, TO, FROM, convert)                                                     \
  static inline __attribute__((unused)) void name(TO *restrict to, const FROM *restrict from,   \
                                                  int64_t count, fd_missing *missing) {         \
    enum { block = 4096 };                                                                      \
    if (*missing != 0) return;                                                                  \
    FD_ATTENTION_SHARE                                                                          \
    for (int64_t begin = 0; begin < count; begin += block) {                                    \
      int64_t end = fd_attention_min(count, begin + block);                                     \
      _Pragma("omp simd") for (int64_t i = begin; i < end; i++) to[i] = convert(from[i]);       \
    }                                                                                           \
  }
FD_CONVERT(fd_widen_bf16, float, fd_bf16, fd_bf16_to_f32)
FD_CONVERT(fd_widen_f16, float, fd_f16, fd_f16_to_f32)
FD_CONVERT(fd_narrow_bf16, fd_bf16, float, fd_f32_to_bf16)
FD_CONVERT(fd_narrow_f16, fd_f16, float, fd_f32_to_f16)
#undef FD_CONVERT
#undef FD_ATTENTION_SHARE
#endif
