// Measures the peaks of this machine's cores: multiply-adds of f32, products of bf16, of bytes and of numbers of 16 bits
// (if the machine has vectors with instructions for them), and reading memory. `peaks THREADS` prints GFLOP/s, for
// integers 10^9 operations a second, and GB/s as JSON. Each is the best of some tries, because other work can only slow
// a try down.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef float floats __attribute__((vector_size(WIDTH)));
typedef uint64_t words __attribute__((vector_size(WIDTH)));

// The number of independent sums hides the latency of each, and all of them have registers.
enum { SUMS = 12, ROUNDS = 1 << 19, TRIES = 9 };
static const size_t BYTES = (size_t)192 << 20;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static volatile float factor = 0.5f;

static void multiply_f32(void *unused) {
  (void)unused;
  floats a = {0}, sums[SUMS];
  a += factor;
  for (int j = 0; j < SUMS; j++) sums[j] = a * (float)j;
  for (int i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
    for (int j = 0; j < SUMS; j++) sums[j] = sums[j] * a + a;
  for (int j = 0; j < SUMS; j++) __asm__ volatile("" : : "m"(sums[j]));
}

#ifdef __AVX512BF16__
static void multiply_bf16(void *unused) {
  (void)unused;
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(factor), _mm512_set1_ps(factor));
  __m512 sums[SUMS];
  for (int j = 0; j < SUMS; j++) sums[j] = _mm512_set1_ps((float)j);
  for (int i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
    for (int j = 0; j < SUMS; j++) sums[j] = _mm512_dpbf16_ps(sums[j], a, a);
  for (int j = 0; j < SUMS; j++) __asm__ volatile("" : : "m"(sums[j]));
}
#endif

#ifdef __AVX512VNNI__
static void multiply_bytes(void *unused) {
  (void)unused;
  __m512i a = _mm512_set1_epi8((char)(10 * factor));
  __m512i sums[SUMS];
  for (int j = 0; j < SUMS; j++) sums[j] = _mm512_set1_epi32(j);
  for (int i = 0; i < ROUNDS; i++)
#pragma GCC unroll 12
    for (int j = 0; j < SUMS; j++) sums[j] = _mm512_dpbusd_epi32(sums[j], a, a);
  for (int j = 0; j < SUMS; j++) __asm__ volatile("" : : "m"(sums[j]));
}
#endif

// AVX2 multiplies bytes in pairs, whose sums have 16 bits, and numbers of 16 bits in pairs, whose sums have 32 bits.
#if defined(__AVX2__) && !defined(__AVX512F__)
#define PAIRS(name, multiply, add)                                                  \
  static void name(void *unused) {                                                  \
    (void)unused;                                                                   \
    __m256i a = _mm256_set1_epi8((char)(10 * factor)), sums[SUMS];                  \
    for (int j = 0; j < SUMS; j++) sums[j] = _mm256_set1_epi32(j);                  \
    for (int i = 0; i < ROUNDS; i++)                                                \
      for (int j = 0; j < SUMS; j++) {                                              \
        __asm__ volatile("" : "+x"(a));                                             \
        sums[j] = add(sums[j], multiply(a, a));                                     \
      }                                                                             \
    for (int j = 0; j < SUMS; j++) __asm__ volatile("" : : "m"(sums[j]));           \
  }
PAIRS(multiply_bytes, _mm256_maddubs_epi16, _mm256_add_epi16)
PAIRS(multiply_words, _mm256_madd_epi16, _mm256_add_epi32)
#endif

static void read_memory(void *from) {
  const words *p = from;
  words sums[8];
  memset(sums, 0, sizeof sums);
  for (size_t i = 0; i < BYTES / sizeof(words); i += 8)
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) sums[j] += p[i + j];
  for (int j = 0; j < 8; j++) __asm__ volatile("" : : "m"(sums[j]));
}

struct task {
  void (*run)(void *);
  void *argument;
  pthread_barrier_t *start;
};

static void *begin(void *argument) {
  struct task *task = argument;
  pthread_barrier_wait(task->start);
  task->run(task->argument);
  return NULL;
}

// Returns the least seconds that `threads` threads take if each does the work.
static double seconds(void (*run)(void *), char **arguments, int threads) {
  double best = 1e9;
  for (int i = 0; i < TRIES; i++) {
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, threads + 1);
    pthread_t ids[256];
    struct task tasks[256];
    for (int t = 0; t < threads; t++) {
      tasks[t] = (struct task){run, arguments ? arguments[t] : NULL, &start};
      if (pthread_create(&ids[t], NULL, begin, &tasks[t])) exit(1);
    }
    double from = now();
    pthread_barrier_wait(&start);
    for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    double took = now() - from;
    if (took < best) best = took;
    pthread_barrier_destroy(&start);
  }
  return best;
}

int main(int count, char **words_) {
  int threads = count > 1 ? atoi(words_[1]) : 1;
  if (threads < 1 || threads > 256) return 1;
  char *memory[256];
  for (int t = 0; t < threads; t++) {
    memory[t] = aligned_alloc(4096, BYTES);
    if (!memory[t]) return 1;
    memset(memory[t], t + 1, BYTES);
  }
  double flops = 2.0 * (WIDTH / sizeof(float)) * SUMS * ROUNDS * threads / 1e9;
  printf("{\"f32\": %.1f", flops / seconds(multiply_f32, NULL, threads));
#ifdef __AVX512BF16__
  printf(", \"bf16\": %.1f", 2 * flops / seconds(multiply_bf16, NULL, threads));
#endif
#if defined(__AVX512VNNI__)
  printf(", \"bytes\": %.1f", 4 * flops / seconds(multiply_bytes, NULL, threads));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  printf(", \"bytes\": %.1f", 4 * flops / seconds(multiply_bytes, NULL, threads));
  printf(", \"words\": %.1f", 2 * flops / seconds(multiply_words, NULL, threads));
#endif
  printf(", \"read\": %.2f}\n", BYTES * (double)threads / 1e9 / seconds(read_memory, memory, threads));
  return 0;
}
