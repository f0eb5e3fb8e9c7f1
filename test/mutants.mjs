// Bugs that `npm run mutants` plants, one at a time: in `file`, the one place that reads `find` becomes `replace`. `tests`
// are the test files that must notice, as parts of their paths.
const kernels = "native/cuda/kernels";

export const mutants = [
  {
    name: "dropped barrier: groups of rows add their sums to a layer norm's gradients in turn",
    file: `${kernels}/layernorm_backward.cu`,
    find: "    __syncthreads();\n    if (group != turn) continue;",
    replace: "    if (group != turn) continue;",
    tests: ["test/ops/layer-norm"],
  },
  {
    name: "dropped barrier: warps' sums of a bias's gradient are read",
    file: `${kernels}/bias_backward.cu`,
    find: "  sum.store(&sums[warp][lane * N]);\n  __syncthreads();",
    replace: "  sum.store(&sums[warp][lane * N]);",
    tests: ["test/ops/gemm", "test/ops/linear"],
  },
  {
    name: "dropped barrier: a transposed tile is read",
    file: `${kernels}/copy.cu`,
    find: "= inp[(a0 + k) * p.inp_along + c0 + x];\n  __syncthreads();",
    replace: "= inp[(a0 + k) * p.inp_along + c0 + x];",
    tests: ["test/ops/views"],
  },
  {
    name: "dropped barrier: a block's sum is used a second time",
    file: `${kernels}/device.h`,
    find: "total += parts[w];\n  __syncthreads();\n  return total;",
    replace: "total += parts[w];\n  return total;",
    tests: ["test/ops/layer-norm", "test/ops/softmax"],
  },
  {
    name: "dropped barrier: the next tile replaces one that is still read",
    file: `${kernels}/attention_backward_queries_mma.cu`,
    find: "    __syncthreads();  // the tile is no longer read\n",
    replace: "",
    tests: ["test/ops/attention"],
  },
  {
    name: "missing wait: f32 tiles of a product are read while they arrive",
    file: `${kernels}/gemm_f32.h`,
    find: "cp_async_wait<kStages - 2>();",
    replace: "cp_async_wait<kStages>();",
    tests: ["test/ops/gemm"],
  },
  {
    name: "missing wait: V's tile is read while it arrives",
    file: `${kernels}/attention_forward_mma.cu`,
    find: "    cp_async_wait<0>();\n    __syncthreads();  // V is there",
    replace: "    __syncthreads();  // V is there",
    tests: ["test/ops/attention"],
  },
  {
    name: "off-by-one tail: a transposed copy writes one column too many",
    file: `${kernels}/copy.cu`,
    find: "if (a0 + x >= p.along || c0 + k >= p.across) continue;",
    replace: "if (a0 + x > p.along || c0 + k >= p.across) continue;",
    tests: ["test/ops/views"],
  },
  {
    name: "off-by-one tail: the last parameter of a tensor is not updated",
    file: `${kernels}/adamw.cu`,
    find: "for (int i = vectors * 4 + threadIdx.x; i < chunk.n; i += kChunkThreads)",
    replace: "for (int i = vectors * 4 + threadIdx.x; i < chunk.n - 1; i += kChunkThreads)",
    tests: ["test/ops/adamw"],
  },
  {
    name: "off-by-one tail: a key behind the last is attended to in decoding",
    file: `${kernels}/attention_decode.cu`,
    find: "if (first + j * kTeams + team >= min(end, row_end[r])) s[j] = -kInfinity;",
    replace: "if (first + j * kTeams + team > min(end, row_end[r])) s[j] = -kInfinity;",
    tests: ["test/ops/attention", "test/generate/cache"],
  },
  {
    name: "unaligned vectors: tensors that begin anywhere are read 16 bytes at a time",
    file: `${kernels}/adamw.cu`,
    find: "const int vectors = addresses % 16 == 0 ? chunk.n / 4 : 0;",
    replace: "const int vectors = chunk.n / 4;",
    tests: ["test/ops/adamw"],
  },
  {
    name: "swapped fragment: halves of b in a bf16 product",
    file: `${kernels}/mma.h`,
    find: '"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "',
    replace: '"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%9, %8}, "',
    tests: ["test/ops/gemm"],
  },
  {
    name: "swapped fragment: neighbouring probabilities change places",
    file: `${kernels}/attention_mma.h`,
    find: "pack<T>(probs[m][k + i / 2][i % 2 * 2], probs[m][k + i / 2][i % 2 * 2 + 1]);",
    replace: "pack<T>(probs[m][k + i / 2][i % 2 * 2 + 1], probs[m][k + i / 2][i % 2 * 2]);",
    tests: ["test/ops/attention"],
  },
  {
    name: "lost lanes: a warp's sum leaves out its upper half",
    file: `${kernels}/device.h`,
    find: "__device__ __forceinline__ float warp_sum(float x) {\n#pragma unroll\n  for (int offset = 16; offset > 0;",
    replace: "__device__ __forceinline__ float warp_sum(float x) {\n#pragma unroll\n  for (int offset = 8; offset > 0;",
    tests: ["test/ops/softmax", "test/ops/layer-norm"],
  },
];
