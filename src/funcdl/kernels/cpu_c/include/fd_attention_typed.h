/* The part of fd_attention.h that is written once and included for each element type (see
 * fd_gemm_typed.h). FD_INF is the type's infinity. Without include guard. */

/* What a hidden key's logit is: finite, so that a query without any key averages all values. */
#define FD_HIDDEN ((FD_T)(-0.7 * 0x1.fffffep127))

typedef struct {
  const FD_T *query, *key, *value, *bias;
  const uint8_t *mask;
  const int32_t *query_lengths, *key_lengths;
} FD_NAME(fd_attention_operands);

/* C += W B for a tile of weights and a panel of B; rows of the tile are FD_ATTENTION_LONG (forwards)
 * or FD_ATTENTION_KEYS elements apart. */
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_long_rows)(
    int64_t k_count, const FD_T *w, const FD_T *b, FD_T *c, int64_t ldc) {
  FD_NAME(fd_gemm_product)(k_count, w, FD_ATTENTION_LONG, 1, b, c, ldc, 1);
}
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_rows)(
    int64_t k_count, const FD_T *w, const FD_T *b, FD_T *c, int64_t ldc) {
  FD_NAME(fd_gemm_product)(k_count, w, FD_ATTENTION_KEYS, 1, b, c, ldc, 1);
}
/* C += W^T B, likewise. */
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_columns)(
    int64_t k_count, const FD_T *w, const FD_T *b, FD_T *c, int64_t ldc) {
  FD_NAME(fd_gemm_product)(k_count, w, 1, FD_ATTENTION_KEYS, b, c, ldc, 1);
}

/* Logits of one query and `count` keys, in place of the products of keys with the scaled query.
 * Behind the last key, to the end of a panel, they are -inf, to have weights of 0. Returns whether all
 * keys are seen. */
FD_INLINE int FD_NAME(fd_attention_logits)(const fd_attention_sizes *at,
                                           const FD_NAME(fd_attention_operands) *x, int64_t batch,
                                           int64_t head, int64_t query, int64_t key, int64_t count,
                                           FD_T *row) {
  const int64_t *step = at->bias_strides;
  if (x->bias) {
    const FD_T *bias = x->bias + batch * step[0] + head * step[1] + query * step[2] + key * step[3];
    if (step[3] == 1) {
#pragma omp simd
      for (int64_t j = 0; j < count; j++) row[j] += bias[j];
    } else {
      for (int64_t j = 0; j < count; j++) row[j] += bias[j * step[3]];
    }
  }
  int64_t begin, end;
  fd_attention_seen(at, x->query_lengths, x->key_lengths, batch, query, &begin, &end);
  begin = fd_attention_min(fd_attention_max(begin - key, 0), count);
  end = fd_attention_max(fd_attention_min(end - key, count), begin);
  if (x->mask) {
    step = at->mask_strides;
    const uint8_t *mask =
        x->mask + batch * step[0] + head * step[1] + query * step[2] + key * step[3];
    for (int64_t j = begin; j < end; j++) row[j] = mask[j * step[3]] ? row[j] : FD_HIDDEN;
  }
  for (int64_t j = 0; j < begin; j++) row[j] = FD_HIDDEN;
  for (int64_t j = end; j < count; j++) row[j] = FD_HIDDEN;
  for (int64_t j = count; j < fd_attention_up(count, FD_NR); j++) row[j] = -FD_INF;
  return begin == 0 && end == count && !x->mask;
}

/* Panels of `rows` rows of the query, scaled. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_scale)(
    const fd_attention_sizes *at, int64_t rows, FD_T *panels) {
  FD_T scale = (FD_T)at->scale;
#pragma omp simd
  for (int64_t i = 0; i < rows; i++) panels[i] *= scale;
}

/* Weights in place of `count` logits, whole panels of them, relative to the largest so far; what was added up for the
 * query before, its total and `width` results, is scaled to match. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_weigh)(
    int64_t count, FD_T *row, FD_T *largest, FD_T *total, int64_t width, FD_T *result) {
  FD_T top = -FD_INF, sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < count; j++) top = row[j] > top ? row[j] : top;
  if (top > *largest) {
    FD_T factor = FD_NAME(fd_exp)(*largest - top);
    *largest = top;
    *total *= factor;
#pragma omp simd
    for (int64_t h = 0; h < width; h++) result[h] *= factor;
  }
  /* Nothing but -inf so far: the weights are 0, and the result 0 / 0. */
  FD_T origin = *largest == -FD_INF ? (FD_T)0 : *largest;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < count; j++) {
    FD_T weight = FD_NAME(fd_exp)(row[j] - origin);
    row[j] = weight;
    sum += weight;
  }
  *total += sum;
}

/* Panels of a head's keys or values: `turned` for products with rows of another operand, else for
 * products with weights. One block of keys after the other. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_pack)(
    const fd_attention_sizes *at, const FD_T *from, int64_t key, int64_t count, int turned,
    FD_T *panels) {
  int64_t apart = at->groups * at->size, width = fd_attention_up(at->size, FD_NR);
  from += key * apart;
  if (turned)
    FD_NAME(fd_pack_b)(panels + key * at->size, from, 1, apart, at->size, count);
  else
    FD_NAME(fd_pack_b)(panels + key * width, from, apart, 1, count, at->size);
}

/* Elements of a head's panels, turned and not. */
FD_INLINE int64_t FD_NAME(fd_attention_turned)(const fd_attention_sizes *at) {
  return fd_attention_up(at->keys, FD_NR) * at->size;
}
FD_INLINE int64_t FD_NAME(fd_attention_plain)(const fd_attention_sizes *at) {
  return at->keys * fd_attention_up(at->size, FD_NR);
}

/* The results of some queries, in `result`, and their statistics. With `skip`, blocks of keys that
 * nobody sees are left out. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_block)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, int64_t batch,
    int64_t head, int64_t query, int64_t rows, const FD_T *query_panels, const FD_T *key_panels,
    const FD_T *value_panels, int skip, FD_T *result, FD_T *largest, FD_T *total) {
  int64_t width = fd_attention_up(at->size, FD_NR);
  _Alignas(64) FD_T tile[FD_MR * FD_ATTENTION_LONG];
  for (int64_t i = 0; i < FD_ATTENTION_ROWS; i++) largest[i] = -FD_INF, total[i] = 0;
  for (int64_t i = 0; i < FD_ATTENTION_ROWS * width; i++) result[i] = 0;
  for (int64_t block = 0; block < at->keys; block += FD_ATTENTION_LONG) {
    int64_t block_keys = fd_attention_min(at->keys - block, FD_ATTENTION_LONG);
    for (int64_t row = 0; row < rows; row += FD_MR) {
      int64_t some = fd_attention_min(rows - row, FD_MR), key = block, end = block + block_keys;
      if (skip) {
        fd_attention_any_seen(at, x->query_lengths, x->key_lengths, batch, query + row, some, block,
                              block_keys, &key, &end);
        if (key >= end) continue;
        key -= (key - block) % FD_NR; /* whole panels, as far as there are keys */
        end = fd_attention_min(block + fd_attention_up(end - block, FD_NR), block + block_keys);
      }
      int64_t keys = end - key, padded = fd_attention_up(keys, FD_NR);
      FD_NAME(fd_gemm_tile)(some, keys, at->size, query_panels + row * at->size,
                            key_panels + key * at->size, tile, FD_ATTENTION_LONG, 0);
      for (int64_t i = 0; i < some; i++) {
        FD_T *weights = tile + i * FD_ATTENTION_LONG;
        FD_NAME(fd_attention_logits)(at, x, batch, head, query + row + i, key, keys, weights);
        FD_NAME(fd_attention_weigh)(padded, weights, &largest[row + i], &total[row + i], width,
                                    result + (row + i) * width);
      }
      for (int64_t h = 0; h < width; h += FD_NR)
        FD_NAME(fd_attention_long_rows)(
            keys, tile, value_panels + block * width + h * block_keys + (key - block) * FD_NR,
            result + row * width + h, width);
    }
  }
}

/* Whether a query has seen no key at all. It averages all values then, skipped ones included. */
FD_INLINE int FD_NAME(fd_attention_none_seen)(const FD_T *largest, int64_t rows) {
  int none = 0;
  for (int64_t i = 0; i < rows; i++) none |= largest[i] <= FD_HIDDEN;
  return none;
}

/* out, and for each query the largest logit and the total of the weights relative to it.
 * `panels` has room for all heads' keys and values, padded to whole panels. */
static __attribute__((unused)) void FD_NAME(fd_attention)(
    fd_attention_sizes at, FD_NAME(fd_attention_operands) x, FD_T *restrict out,
    FD_T *restrict largest, FD_T *restrict total, FD_T *restrict panels) {
  int64_t turned = FD_NAME(fd_attention_turned)(&at), plain = FD_NAME(fd_attention_plain)(&at);
  int64_t width = fd_attention_up(at.size, FD_NR), apart = at.heads * at.size;
  int64_t key_blocks = (at.keys + FD_ATTENTION_LONG - 1) / FD_ATTENTION_LONG;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.groups * key_blocks; task++) {
    int64_t group = task / key_blocks, key = task % key_blocks * FD_ATTENTION_LONG;
    int64_t count = fd_attention_min(at.keys - key, FD_ATTENTION_LONG);
    int64_t first = (group / at.groups * at.keys * at.groups + group % at.groups) * at.size;
    FD_T *own = panels + group * (turned + plain);
    FD_NAME(fd_attention_pack)(&at, x.key + first, key, count, 1, own);
    FD_NAME(fd_attention_pack)(&at, x.value + first, key, count, 0, own + turned);
  }
  int64_t blocks = (at.queries + FD_ATTENTION_ROWS - 1) / FD_ATTENTION_ROWS;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.heads * blocks; task++) {
    int64_t query = task % blocks * FD_ATTENTION_ROWS, head = task / blocks % at.heads;
    int64_t batch = task / blocks / at.heads;
    int64_t rows = fd_attention_min(at.queries - query, FD_ATTENTION_ROWS);
    const FD_T *own =
        panels + (batch * at.groups + head / (at.heads / at.groups)) * (turned + plain);
    FD_T *memory = fd_attention_memory((int64_t)sizeof(FD_T) * FD_ATTENTION_ROWS *
                                       (at.size + width + 2));
    FD_T *query_panels = memory, *result = query_panels + FD_ATTENTION_ROWS * at.size;
    FD_T *top = result + FD_ATTENTION_ROWS * width, *sum = top + FD_ATTENTION_ROWS;
    int64_t first = (batch * at.queries + query) * apart + head * at.size;
    FD_NAME(fd_pack_a)(query_panels, x.query + first, apart, 1, rows, at.size);
    FD_NAME(fd_attention_scale)(&at, fd_attention_up(rows, FD_MR) * at.size, query_panels);
    FD_NAME(fd_attention_block)(&at, &x, batch, head, query, rows, query_panels, own, own + turned,
                                1, result, top, sum);
    if (FD_NAME(fd_attention_none_seen)(top, rows))
      FD_NAME(fd_attention_block)(&at, &x, batch, head, query, rows, query_panels, own,
                                  own + turned, 0, result, top, sum);
    for (int64_t i = 0; i < rows; i++) {
      int64_t place = (batch * at.heads + head) * at.queries + query + i;
      FD_T weight = 1 / sum[i];
#pragma omp simd
      for (int64_t h = 0; h < at.size; h++) out[first + i * apart + h] = result[i * width + h] * weight;
      largest[place] = top[i];
      total[place] = sum[i];
    }
    free(memory);
  }
}

/* Of one query and `count` keys: weights in place of the products with keys, and the gradient of
 * these products in place of the products with values. `mean` is the weighted mean of the latter. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_pull)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, int64_t batch,
    int64_t head, int64_t query, int64_t key, int64_t count, FD_T largest, FD_T total, FD_T mean,
    FD_T *row, FD_T *gradient) {
  int all = FD_NAME(fd_attention_logits)(at, x, batch, head, query, key, count, row);
  FD_T share = 1 / total;
  int64_t padded = fd_attention_up(count, FD_NR);
  if (all) {
#pragma omp simd
    for (int64_t j = 0; j < padded; j++) {
      FD_T weight = FD_NAME(fd_exp)(row[j] - largest) * share;
      row[j] = weight;
      gradient[j] = weight * (gradient[j] - mean);
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < padded; j++) {
      FD_T weight = FD_NAME(fd_exp)(row[j] - largest) * share;
      FD_T pulled = weight * (gradient[j] - mean);
      gradient[j] = row[j] == FD_HIDDEN ? (FD_T)0 : pulled;
      row[j] = weight;
    }
  }
  for (int64_t j = count; j < FD_ATTENTION_KEYS; j++) row[j] = 0, gradient[j] = 0;
}

/* The part of the gradient that comes of every chunks-th block of queries of a head: those of the
 * queries themselves, and sums for all keys and values of the head, rows of `width` elements. */
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_pull_chunk)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, const FD_T *out,
    const FD_T *largest, const FD_T *total, const FD_T *cotangent, int64_t batch, int64_t head,
    int64_t chunk, const FD_T *panels, FD_T *query_gradient, FD_T *key_sums, FD_T *value_sums) {
  enum { rows_max = FD_ATTENTION_ROWS };
  int64_t size = at->size, width = fd_attention_up(size, FD_NR), apart = at->heads * size;
  const FD_T *value_panels = panels + FD_NAME(fd_attention_turned)(at);
  const FD_T *plain_panels = value_panels + FD_NAME(fd_attention_turned)(at);
  FD_T *memory = fd_attention_memory((int64_t)sizeof(FD_T) * rows_max *
                                     (2 * size + 3 * width + 2 * FD_ATTENTION_KEYS));
  FD_T *weights = memory, *gradients = weights + rows_max * FD_ATTENTION_KEYS;
  FD_T *rows_of_query = gradients + rows_max * FD_ATTENTION_KEYS;
  FD_T *rows_of_cotangent = rows_of_query + rows_max * size;
  FD_T *query_panels = rows_of_cotangent + rows_max * size;
  FD_T *cotangent_panels = query_panels + rows_max * width;
  FD_T *sums = cotangent_panels + rows_max * width;
  int64_t padded = fd_attention_up(at->keys, FD_ATTENTION_KEYS) * width;
  for (int64_t i = 0; i < padded; i++) key_sums[i] = 0, value_sums[i] = 0;
  for (int64_t query = chunk * rows_max; query < at->queries; query += at->chunks * rows_max) {
    int64_t rows = fd_attention_min(at->queries - query, rows_max);
    int64_t first = (batch * at->queries + query) * apart + head * size;
    int64_t place = (batch * at->heads + head) * at->queries + query;
    int skip = !FD_NAME(fd_attention_none_seen)(largest + place, rows);
    FD_T means[rows_max];
    for (int64_t i = 0; i < rows; i++) {
      const FD_T *a = out + first + i * apart, *b = cotangent + first + i * apart;
      FD_T mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t h = 0; h < size; h++) mean += a[h] * b[h];
      means[i] = mean;
    }
    FD_NAME(fd_pack_a)(rows_of_query, x->query + first, apart, 1, rows, size);
    FD_NAME(fd_pack_a)(rows_of_cotangent, cotangent + first, apart, 1, rows, size);
    FD_NAME(fd_pack_b)(query_panels, x->query + first, apart, 1, rows, size);
    FD_NAME(fd_pack_b)(cotangent_panels, cotangent + first, apart, 1, rows, size);
    FD_NAME(fd_attention_scale)(at, fd_attention_up(rows, FD_MR) * size, rows_of_query);
    FD_NAME(fd_attention_scale)(at, rows * width, query_panels);
    for (int64_t i = 0; i < rows_max * width; i++) sums[i] = 0;
    for (int64_t key = 0; key < at->keys; key += FD_ATTENTION_KEYS) {
      int64_t keys = fd_attention_min(at->keys - key, FD_ATTENTION_KEYS);
      int64_t begin, end;
      fd_attention_any_seen(at, x->query_lengths, x->key_lengths, batch, query, rows, key, keys,
                            &begin, &end);
      if (skip && begin >= end) continue;
      FD_NAME(fd_gemm_tile)(rows, keys, size, rows_of_query, panels + key * size, weights,
                            FD_ATTENTION_KEYS, 0);
      FD_NAME(fd_gemm_tile)(rows, keys, size, rows_of_cotangent, value_panels + key * size,
                            gradients, FD_ATTENTION_KEYS, 0);
      for (int64_t i = 0; i < rows; i++)
        FD_NAME(fd_attention_pull)(at, x, batch, head, query + i, key, keys, largest[place + i],
                                   total[place + i], means[i], weights + i * FD_ATTENTION_KEYS,
                                   gradients + i * FD_ATTENTION_KEYS);
      for (int64_t h = 0; h < width; h += FD_NR) {
        for (int64_t j = 0; j < keys; j += FD_MR) {
          int64_t to = (key + j) * width + h;
          FD_NAME(fd_attention_columns)(rows, weights + j, cotangent_panels + h * rows,
                                        value_sums + to, width);
          FD_NAME(fd_attention_columns)(rows, gradients + j, query_panels + h * rows, key_sums + to,
                                        width);
        }
        for (int64_t i = 0; i < rows; i += FD_MR)
          FD_NAME(fd_attention_rows)(keys, gradients + i * FD_ATTENTION_KEYS,
                                     plain_panels + key * width + h * keys, sums + i * width + h,
                                     width);
      }
    }
    for (int64_t i = 0; i < rows; i++)
      for (int64_t h = 0; h < size; h++)
        query_gradient[first + i * apart + h] = sums[i * width + h] * (FD_T)at->scale;
  }
  free(memory);
}

/* Cotangents of query, key and value. `panels` has room for all heads' keys twice and values, padded
 * to whole panels; `sums` for two times chunks * heads * keys rows, padded to whole blocks. */
static __attribute__((unused)) void FD_NAME(fd_attention_gradient)(
    fd_attention_sizes at, FD_NAME(fd_attention_operands) x, const FD_T *restrict out,
    const FD_T *restrict largest, const FD_T *restrict total, const FD_T *restrict cotangent,
    FD_T *restrict query_gradient, FD_T *restrict key_gradient, FD_T *restrict value_gradient,
    FD_T *restrict panels, FD_T *restrict sums) {
  int64_t turned = FD_NAME(fd_attention_turned)(&at), plain = FD_NAME(fd_attention_plain)(&at);
  int64_t width = fd_attention_up(at.size, FD_NR), shared = at.heads / at.groups;
  int64_t key_blocks = (at.keys + FD_ATTENTION_KEYS - 1) / FD_ATTENTION_KEYS;
  int64_t padded = key_blocks * FD_ATTENTION_KEYS * width, parts = shared * at.chunks;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.groups * key_blocks; task++) {
    int64_t group = task / key_blocks, key = task % key_blocks * FD_ATTENTION_KEYS;
    int64_t count = fd_attention_min(at.keys - key, FD_ATTENTION_KEYS);
    int64_t first = (group / at.groups * at.keys * at.groups + group % at.groups) * at.size;
    FD_T *own = panels + group * (2 * turned + plain);
    FD_NAME(fd_attention_pack)(&at, x.key + first, key, count, 1, own);
    FD_NAME(fd_attention_pack)(&at, x.value + first, key, count, 1, own + turned);
    FD_NAME(fd_attention_pack)(&at, x.key + first, key, count, 0, own + 2 * turned);
  }
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.heads * at.chunks; task++) {
    int64_t batch = task / at.chunks / at.heads, head = task / at.chunks % at.heads;
    FD_T *own = sums + task * 2 * padded;
    FD_NAME(fd_attention_pull_chunk)(
        &at, &x, out, largest, total, cotangent, batch, head, task % at.chunks,
        panels + (batch * at.groups + head / shared) * (2 * turned + plain), query_gradient, own,
        own + padded);
  }
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.groups * key_blocks; task++) {
    int64_t group = task / key_blocks, begin = task % key_blocks * FD_ATTENTION_KEYS;
    int64_t end = fd_attention_min(at.keys, begin + FD_ATTENTION_KEYS);
    for (int64_t key = begin; key < end; key++) {
      int64_t to = ((group / at.groups * at.keys + key) * at.groups + group % at.groups) * at.size;
      const FD_T *of_key = sums + group * parts * 2 * padded + key * width;
      for (int64_t h = 0; h < at.size; h++) {
        FD_T key_sum = 0, value_sum = 0;
        for (int64_t part = 0; part < parts; part++) {
          key_sum += of_key[part * 2 * padded + h];
          value_sum += of_key[(part * 2 + 1) * padded + h];
        }
        key_gradient[to + h] = key_sum;
        value_gradient[to + h] = value_sum;
      }
    }
  }
}
#undef FD_HIDDEN
