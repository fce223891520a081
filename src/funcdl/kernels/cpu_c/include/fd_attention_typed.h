/* The part of fd_attention.h that is written once and included for each element type (see
 * fd_gemm_typed.h). FD_INF is the type's infinity. Without include guard.
 *
 * All tiles have a row for each key and a column for each query, so that keys and values are left
 * operands, read where they are, and that a softmax needs nothing of neighbouring lanes. Queries
 * are the columns of panels, FD_NR wide, whose padding takes part and counts nowhere. */

/* What a hidden key's logit is: finite, so that a query without any key averages all values. */
#define FD_HIDDEN ((FD_T)(-0.7 * 0x1.fffffep127))

typedef struct {
  const FD_T *query, *key, *value, *bias;
  const uint8_t *mask;
  const int32_t *query_lengths, *key_lengths;
  const uint32_t *dropout_keys;
} FD_NAME(fd_attention_operands);

/* Columns of a product with so many queries, or rows of so many elements: whole vectors. */
FD_INLINE int64_t FD_NAME(fd_attention_padded)(int64_t count) {
  return fd_attention_up(count, FD_VECTOR_BYTES / sizeof(FD_T));
}

/* Logits of `keys` keys and one panel of queries in place of the products of keys with scaled
 * queries; rows of the tile are `apart` elements apart. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_logits)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, int64_t batch,
    int64_t head, int64_t query, int64_t rows, int64_t key, int64_t keys, FD_T *tile,
    int64_t apart) {
  const int64_t *step = at->bias_strides;
  if (x->bias) {
    FD_T turned[FD_ATTENTION_KEYS * FD_NR];
    const FD_T *bias = x->bias + batch * step[0] + head * step[1] + query * step[2] + key * step[3];
    FD_NAME(fd_pack)(turned, bias, step[3], step[2], keys, rows);
    const int64_t padded = FD_NAME(fd_attention_padded)(rows);
    for (int64_t j = 0; j < keys; j++) {
#pragma omp simd
      for (int64_t i = 0; i < padded; i++) tile[j * apart + i] += turned[j * FD_NR + i];
    }
  }
  step = at->mask_strides;
  const uint8_t *mask = x->mask;
  if (mask) mask += batch * step[0] + head * step[1] + query * step[2] + key * step[3];
  for (int64_t i = 0; i < rows; i++) {
    int64_t begin, end;
    fd_attention_seen(at, x->query_lengths, x->key_lengths, batch, query + i, &begin, &end);
    begin = fd_attention_min(fd_attention_max(begin - key, 0), keys);
    end = fd_attention_max(fd_attention_min(end - key, keys), begin);
    if (mask)
      for (int64_t j = begin; j < end; j++)
        if (!mask[i * step[2] + j * step[3]]) tile[j * apart + i] = FD_HIDDEN;
    for (int64_t j = 0; j < begin; j++) tile[j * apart + i] = FD_HIDDEN;
    for (int64_t j = end; j < keys; j++) tile[j * apart + i] = FD_HIDDEN;
  }
}

/* Weights in place of the logits of `keys` keys, relative to each query's largest so far; what was
 * added up before, totals and the `size` rows of the result, is scaled to match. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_weigh)(
    int64_t keys, FD_T *tile, FD_T *largest, FD_T *total, int64_t size, FD_T *result) {
  FD_T top[FD_NR], factor[FD_NR], sum[FD_NR];
  int larger = 0;
  for (int64_t i = 0; i < FD_NR; i++) top[i] = largest[i], sum[i] = 0;
  for (int64_t j = 0; j < keys; j++) {
#pragma omp simd
    for (int64_t i = 0; i < FD_NR; i++) {
      const FD_T logit = tile[j * FD_NR + i];
      top[i] = logit > top[i] ? logit : top[i];
    }
  }
#pragma omp simd reduction(| : larger)
  for (int64_t i = 0; i < FD_NR; i++) {
    larger |= top[i] > largest[i];
    factor[i] = top[i] > largest[i] ? FD_NAME(fd_exp)(largest[i] - top[i]) : (FD_T)1;
    total[i] *= factor[i];
    largest[i] = top[i];
    /* Nothing but -inf so far: the weights are 0, and the result 0 / 0. */
    top[i] = top[i] == -FD_INF ? (FD_T)0 : top[i];
  }
  if (larger)
    for (int64_t h = 0; h < size; h++) {
#pragma omp simd
      for (int64_t i = 0; i < FD_NR; i++) result[h * FD_NR + i] *= factor[i];
    }
  for (int64_t j = 0; j < keys; j++) {
#pragma omp simd
    for (int64_t i = 0; i < FD_NR; i++) {
      const FD_T weight = FD_NAME(fd_exp)(tile[j * FD_NR + i] - top[i]);
      tile[j * FD_NR + i] = weight;
      sum[i] += weight;
    }
  }
  for (int64_t i = 0; i < FD_NR; i++) total[i] += sum[i];
}

/* Of `keys` keys and one panel of queries, what dropout multiplies weights by: 0, or the scale of
 * those that stay. Key 2 i and the next one take the two words of the counter (query, i), as in
 * ops/attention_formula.py. */
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_factors)(
    const fd_attention_sizes *at, const uint32_t *random_key, int64_t query, int64_t key,
    int64_t keys, FD_T *factors) {
  const FD_T scale = (FD_T)at->kept_scale;
  const uint32_t least = at->least_kept, key0 = random_key[0], key1 = random_key[1];
  for (int64_t j = -(key & 1); j < keys; j += 2) {
    FD_T pair[2][FD_NR];
#pragma omp simd
    for (int64_t i = 0; i < FD_NR; i++) {
      uint32_t even, odd;
      fd_threefry2x32(key0, key1, (uint32_t)query + (uint32_t)i, (uint32_t)((key + j) >> 1), &even,
                      &odd);
      pair[0][i] = even >= least ? scale : (FD_T)0;
      pair[1][i] = odd >= least ? scale : (FD_T)0;
    }
    for (int64_t c = fd_attention_max(-j, 0); c < fd_attention_min(keys - j, 2); c++)
      memcpy(factors + (j + c) * FD_NR, pair[c], sizeof pair[c]);
  }
}

/* A tile of `keys` keys and one panel of queries, with what is dropped 0, whatever it was. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_drop)(
    int64_t keys, const FD_T *factors, FD_T *tile, int64_t apart) {
  for (int64_t j = 0; j < keys; j++) {
#pragma omp simd
    for (int64_t i = 0; i < FD_NR; i++) {
      const FD_T factor = factors[j * FD_NR + i];
      tile[j * apart + i] = factor == 0 ? (FD_T)0 : tile[j * apart + i] * factor;
    }
  }
}

/* Rows of queries from the columns of a panel; `turned` has room for the panel's transpose. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_store)(
    int64_t rows, int64_t size, const FD_T *panel, FD_T *turned, FD_T *to, int64_t apart) {
  FD_NAME(fd_pack)(turned, panel, 1, FD_NR, rows, size);
  for (int64_t h = 0; h < size; h += FD_NR, turned += rows * FD_NR)
    for (int64_t i = 0; i < rows; i++)
      for (int64_t c = 0; c < fd_attention_min(size - h, FD_NR); c++)
        to[i * apart + h + c] = turned[i * FD_NR + c];
}

/* The results of a block of queries, in panels, and their statistics. With `skip`, keys before the
 * first and after the last that a panel's queries see are left out. `factors` is a tile's memory for
 * dropout. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_block)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, int64_t batch,
    int64_t head, int64_t query, int64_t rows, int skip, const FD_T *queries, FD_T *tile,
    FD_T *result, FD_T *largest, FD_T *total, FD_T *factors) {
  const int64_t size = at->size, apart = at->groups * size;
  const uint32_t *random_key = fd_attention_key(at, x->dropout_keys, batch, head);
  const int64_t first = batch * at->keys * apart + head / (at->heads / at->groups) * size;
  for (int64_t i = 0; i < FD_ATTENTION_QUERIES; i++) largest[i] = -FD_INF, total[i] = 0;
  for (int64_t i = 0; i < FD_ATTENTION_QUERIES * size; i++) result[i] = 0;
  for (int64_t block = 0; block < at->keys; block += FD_ATTENTION_KEYS) {
    const int64_t keys = fd_attention_min(at->keys - block, FD_ATTENTION_KEYS);
    for (int64_t row = 0; row < rows; row += FD_NR) {
      const int64_t some = fd_attention_min(rows - row, FD_NR);
      const int64_t padded = FD_NAME(fd_attention_padded)(some);
      int64_t key = block, end = block + keys;
      if (skip)
        fd_attention_any_seen(at, x->query_lengths, x->key_lengths, batch, query + row, some, block,
                              keys, &key, &end);
      if (key >= end) continue;
      FD_NAME(fd_gemm)(end - key, padded, size, x->key + first + key * apart, apart, 1,
                       queries + row * size, FD_NR, FD_NR, tile, FD_NR, 0);
      FD_NAME(fd_attention_logits)(at, x, batch, head, query + row, some, key, end - key, tile,
                                   FD_NR);
      FD_NAME(fd_attention_weigh)(end - key, tile, &largest[row], &total[row], size,
                                  result + row * size);
      if (random_key) {
        FD_NAME(fd_attention_factors)(at, random_key, query + row, key, end - key, factors);
        FD_NAME(fd_attention_drop)(end - key, factors, tile, FD_NR);
      }
      FD_NAME(fd_gemm)(size, padded, end - key, x->value + first + key * apart, 1, apart, tile,
                       FD_NR, FD_NR, result + row * size, FD_NR, 1);
    }
  }
}

/* Whether a query has seen no key at all. It averages all values then, skipped ones included. */
FD_INLINE int FD_NAME(fd_attention_none_seen)(const FD_T *largest, int64_t rows) {
  int none = 0;
  for (int64_t i = 0; i < rows; i++) none |= largest[i] <= FD_HIDDEN;
  return none;
}

/* A block of queries, scaled, in panels. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_turn)(
    int64_t rows, int64_t size, const FD_T *from, int64_t apart, double scale, FD_T *panels) {
  FD_NAME(fd_pack)(panels, from, 1, apart, size, rows);
#pragma omp simd
  for (int64_t i = 0; i < FD_ATTENTION_QUERIES * size; i++) panels[i] *= (FD_T)scale;
}

/* out, and for each query the largest logit and the total of the weights relative to it. */
static __attribute__((unused)) void FD_NAME(fd_attention)(
    fd_attention_sizes at, FD_NAME(fd_attention_operands) x, FD_T *restrict out,
    FD_T *restrict largest, FD_T *restrict total, fd_missing *missing) {
  enum { rows_max = FD_ATTENTION_QUERIES };
  const int64_t size = at.size, apart = at.heads * size;
  const int64_t blocks = (at.queries + rows_max - 1) / rows_max;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.heads * blocks; task++) {
    const int64_t query = task % blocks * rows_max, head = task / blocks % at.heads;
    const int64_t batch = task / blocks / at.heads;
    const int64_t rows = fd_attention_min(at.queries - query, rows_max);
    const int64_t elements = rows_max * (2 * size + 2) +
                             FD_NR * (FD_ATTENTION_KEYS * (x.dropout_keys ? 2 : 1) +
                                      fd_attention_up(size, FD_NR));
    FD_T *queries =
        fd_attention_memory((int64_t)sizeof(FD_T) * elements, rows < rows_max, missing);
    if (queries == NULL) continue;
    FD_T *result = queries + rows_max * size, *top = result + rows_max * size;
    FD_T *sum = top + rows_max, *tile = sum + rows_max, *turned = tile + FD_ATTENTION_KEYS * FD_NR;
    FD_T *factors = turned + FD_NR * fd_attention_up(size, FD_NR);
    const int64_t first = (batch * at.queries + query) * apart + head * size;
    FD_NAME(fd_attention_turn)(rows, size, x.query + first, apart, at.scale, queries);
    FD_NAME(fd_attention_block)(&at, &x, batch, head, query, rows, 1, queries, tile, result, top,
                                sum, factors);
    if (FD_NAME(fd_attention_none_seen)(top, rows))
      FD_NAME(fd_attention_block)(&at, &x, batch, head, query, rows, 0, queries, tile, result, top,
                                  sum, factors);
    for (int64_t row = 0; row < rows; row += FD_NR) {
      const int64_t some = fd_attention_min(rows - row, FD_NR);
      for (int64_t h = 0; h < size; h++) {
#pragma omp simd
        for (int64_t i = 0; i < FD_NR; i++) result[row * size + h * FD_NR + i] /= sum[row + i];
      }
      FD_NAME(fd_attention_store)(some, size, result + row * size, turned,
                                  out + first + row * apart, apart);
    }
    for (int64_t i = 0; i < rows; i++) {
      const int64_t place = (batch * at.heads + head) * at.queries + query + i;
      largest[place] = top[i];
      total[place] = sum[i];
    }
    free(queries);
  }
}

/* Of `keys` keys and one panel of queries: weights in place of logits, and the gradient of the
 * logits in place of the products of values and cotangents. `share` is 1 / total, and `means` are
 * the weighted means of those products. */
static inline __attribute__((unused)) void FD_NAME(fd_attention_pull)(
    int64_t keys, const FD_T *largest, const FD_T *share, const FD_T *means, FD_T *weights,
    FD_T *gradients) {
  enum { apart = FD_ATTENTION_QUERIES };
  for (int64_t j = 0; j < keys; j++, weights += apart, gradients += apart) {
#pragma omp simd
    for (int64_t i = 0; i < FD_NR; i++) {
      const FD_T logit = weights[i], weight = FD_NAME(fd_exp)(logit - largest[i]) * share[i];
      const FD_T gradient = weight * (gradients[i] - means[i]);
      gradients[i] = logit == FD_HIDDEN ? (FD_T)0 : gradient;
      weights[i] = weight;
    }
  }
}

/* The part of the gradient that comes of every chunks-th block of queries of a head: those of the
 * queries themselves, and sums for all keys and values of the head, rows of whole vectors. */
static __attribute__((noinline, unused)) void FD_NAME(fd_attention_pull_chunk)(
    const fd_attention_sizes *at, const FD_NAME(fd_attention_operands) *x, const FD_T *out,
    const FD_T *largest, const FD_T *total, const FD_T *cotangent, int64_t batch, int64_t head,
    int64_t chunk, FD_T *query_gradient, FD_T *key_sums, FD_T *value_sums, fd_missing *missing) {
  enum { rows_max = FD_ATTENTION_QUERIES };
  const int64_t size = at->size, width = FD_NAME(fd_attention_padded)(size);
  const int64_t apart = at->heads * size, keys_apart = at->groups * size;
  const int64_t group = head / (at->heads / at->groups);
  const FD_T *key_rows = x->key + batch * at->keys * keys_apart + group * size;
  const FD_T *value_rows = x->value + batch * at->keys * keys_apart + group * size;
  const int64_t panels = rows_max * fd_attention_up(size, FD_NR);
  const int64_t dropping = x->dropout_keys ? FD_ATTENTION_KEYS * FD_NR : 0;
  const int64_t elements =
      rows_max * (2 * FD_ATTENTION_KEYS + 3 * size + 3) + 3 * panels + dropping;
  const uint32_t *random_key = fd_attention_key(at, x->dropout_keys, batch, head);
  FD_T *weights =
      fd_attention_memory((int64_t)sizeof(FD_T) * elements, at->queries % rows_max != 0, missing);
  if (weights == NULL) return;
  FD_T *gradients = weights + rows_max * FD_ATTENTION_KEYS;
  FD_T *turned_queries = gradients + rows_max * FD_ATTENTION_KEYS;
  FD_T *turned_cotangents = turned_queries + rows_max * size;
  FD_T *sums = turned_cotangents + rows_max * size, *queries = sums + rows_max * size;
  FD_T *cotangents = queries + panels, *turned = cotangents + panels, *top = turned + panels;
  FD_T *share = top + rows_max, *means = share + rows_max, *factors = means + rows_max;
  for (int64_t i = 0; i < at->keys * width; i++) key_sums[i] = 0, value_sums[i] = 0;
  for (int64_t query = chunk * rows_max; query < at->queries; query += at->chunks * rows_max) {
    const int64_t rows = fd_attention_min(at->queries - query, rows_max);
    const int64_t padded = FD_NAME(fd_attention_padded)(rows);
    const int64_t first = (batch * at->queries + query) * apart + head * size;
    const int64_t place = (batch * at->heads + head) * at->queries + query;
    const int skip = !FD_NAME(fd_attention_none_seen)(largest + place, rows);
    for (int64_t i = 0; i < rows; i++) {
      const FD_T *a = out + first + i * apart, *b = cotangent + first + i * apart;
      FD_T mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t h = 0; h < size; h++) mean += a[h] * b[h];
      means[i] = mean;
      top[i] = largest[place + i];
      share[i] = 1 / total[place + i];
    }
    FD_NAME(fd_attention_turn)(rows, size, x->query + first, apart, at->scale, turned_queries);
    FD_NAME(fd_pack)(turned_cotangents, cotangent + first, 1, apart, size, rows);
    FD_NAME(fd_pack)(queries, x->query + first, apart, 1, rows, size);
    FD_NAME(fd_pack)(cotangents, cotangent + first, apart, 1, rows, size);
    for (int64_t i = 0; i < rows_max * size; i++) sums[i] = 0;
    for (int64_t block = 0; block < at->keys; block += FD_ATTENTION_KEYS) {
      int64_t key = block, end = fd_attention_min(at->keys, block + FD_ATTENTION_KEYS);
      if (skip)
        fd_attention_any_seen(at, x->query_lengths, x->key_lengths, batch, query, rows, block,
                              end - block, &key, &end);
      if (key >= end) continue;
      const int64_t keys = end - key;
      FD_NAME(fd_gemm)(keys, padded, size, key_rows + key * keys_apart, keys_apart, 1,
                       turned_queries, FD_NR, size * FD_NR, weights, rows_max, 0);
      FD_NAME(fd_gemm)(keys, padded, size, value_rows + key * keys_apart, keys_apart, 1,
                       turned_cotangents, FD_NR, size * FD_NR, gradients, rows_max, 0);
      for (int64_t row = 0; row < rows; row += FD_NR) {
        FD_NAME(fd_attention_logits)(at, x, batch, head, query + row,
                                     fd_attention_min(rows - row, FD_NR), key, keys,
                                     weights + row, rows_max);
        if (random_key) {
          FD_NAME(fd_attention_factors)(at, random_key, query + row, key, keys, factors);
          FD_NAME(fd_attention_drop)(keys, factors, gradients + row, rows_max);
        }
        FD_NAME(fd_attention_pull)(keys, top + row, share + row, means + row, weights + row,
                                   gradients + row);
        if (random_key) FD_NAME(fd_attention_drop)(keys, factors, weights + row, rows_max);
      }
      FD_NAME(fd_gemm)(keys, width, rows, weights, rows_max, 1, cotangents, FD_NR, rows * FD_NR,
                       value_sums + key * width, width, 1);
      FD_NAME(fd_gemm)(keys, width, rows, gradients, rows_max, 1, queries, FD_NR, rows * FD_NR,
                       key_sums + key * width, width, 1);
      for (int64_t row = 0; row < padded; row += FD_NR)
        FD_NAME(fd_gemm)(size, fd_attention_min(padded - row, FD_NR), keys,
                         key_rows + key * keys_apart, 1, keys_apart, gradients + row, rows_max,
                         FD_NR, sums + row * size, FD_NR, 1);
    }
#pragma omp simd
    for (int64_t i = 0; i < rows_max * size; i++) sums[i] *= (FD_T)at->scale;
    for (int64_t row = 0; row < rows; row += FD_NR)
      FD_NAME(fd_attention_store)(fd_attention_min(rows - row, FD_NR), size, sums + row * size,
                                  turned, query_gradient + first + row * apart, apart);
  }
  free(weights);
}

/* Cotangents of query, key and value. `sums` has room for two times chunks * heads * keys rows,
 * padded to whole vectors. */
static __attribute__((unused)) void FD_NAME(fd_attention_gradient)(
    fd_attention_sizes at, FD_NAME(fd_attention_operands) x, const FD_T *restrict out,
    const FD_T *restrict largest, const FD_T *restrict total, const FD_T *restrict cotangent,
    FD_T *restrict query_gradient, FD_T *restrict key_gradient, FD_T *restrict value_gradient,
    FD_T *restrict sums, fd_missing *missing) {
  const int64_t width = FD_NAME(fd_attention_padded)(at.size), padded = at.keys * width;
  const int64_t parts = at.heads / at.groups * at.chunks;
  const FD_T scale = (FD_T)at.scale;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.heads * at.chunks; task++) {
    FD_T *own = sums + task * 2 * padded;
    FD_NAME(fd_attention_pull_chunk)(
        &at, &x, out, largest, total, cotangent, task / at.chunks / at.heads,
        task / at.chunks % at.heads, task % at.chunks, query_gradient, own, own + padded, missing);
  }
  if (*missing != 0) return; /* some sums are undefined */
  const int64_t key_blocks = (at.keys + FD_ATTENTION_KEYS - 1) / FD_ATTENTION_KEYS;
  FD_ATTENTION_SHARE
  for (int64_t task = 0; task < at.batch * at.groups * key_blocks; task++) {
    const int64_t group = task / key_blocks, begin = task % key_blocks * FD_ATTENTION_KEYS;
    const int64_t end = fd_attention_min(at.keys, begin + FD_ATTENTION_KEYS);
    for (int64_t key = begin; key < end; key++) {
      const int64_t to =
          ((group / at.groups * at.keys + key) * at.groups + group % at.groups) * at.size;
      const FD_T *of_key = sums + group * parts * 2 * padded + key * width;
#pragma omp simd
      for (int64_t h = 0; h < at.size; h++) {
        FD_T key_sum = 0, value_sum = 0;
        for (int64_t part = 0; part < parts; part++) {
          key_sum += of_key[part * 2 * padded + h];
          value_sum += of_key[(part * 2 + 1) * padded + h];
        }
        key_gradient[to + h] = key_sum * scale;
        value_gradient[to + h] = value_sum;
      }
    }
  }
}
#undef FD_HIDDEN
