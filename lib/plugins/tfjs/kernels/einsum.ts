/** Einstein's sums of one tensor or two: a permutation and a sum, or a batch of matrix products. */
import { ops } from "../../../core/native.js";
import { maxRank, numel } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { both, floats, kernel, type KernelTable } from "../table.js";
import { isEmpty, type Work } from "../work.js";

/** A tensor whose dimensions are named by numbers, the first of which are those of the result. */
interface Term {
  x: Tensor;
  dims: number[];
}

/** Returns a term without the dimensions that the condition holds for, over which it is summed. */
function summed(work: Work, { x, dims }: Term, over: (dim: number) => boolean): Term {
  const axes = [...dims.keys()].filter((axis) => over(dims[axis]!));
  if (!axes.length) return { x, dims };
  const sum = work.reduce("sum", x, axes);
  const kept = [...dims.keys()].filter((axis) => !axes.includes(axis));
  const shape = kept.map((axis) => x.shape[axis]!);
  return { x: work.reshape(sum, shape), dims: kept.map((axis) => dims[axis]!) };
}

/** Returns the elements with the dimensions in this order, those of each group joined to one. */
function grouped(work: Work, { x, dims }: Term, groups: number[][]): Tensor {
  const axes = groups.map((group) => group.map((dim) => dims.indexOf(dim)));
  return work.reshape(
    work.permute(x, axes.flat()),
    axes.map((group) => numel(group.map((axis) => x.shape[axis]!))),
  );
}

function product(work: Work, a: Term, b: Term, outputs: number): Term {
  const isOutput = (dim: number): boolean => dim < outputs;
  const left = summed(work, a, (dim) => !isOutput(dim) && !b.dims.includes(dim));
  const right = summed(work, b, (dim) => !isOutput(dim) && !a.dims.includes(dim));
  const shared = left.dims.filter((dim) => right.dims.includes(dim));
  const [batch, contracted] = [shared.filter(isOutput), shared.filter((dim) => !isOutput(dim))];
  const rows = left.dims.filter((dim) => !shared.includes(dim));
  const columns = right.dims.filter((dim) => !shared.includes(dim));
  const x = grouped(work, left, [batch, rows, contracted]);
  const y = grouped(work, right, [batch, contracted, columns]);
  const out = work.make([x.shape[0]!, x.shape[1]!, y.shape[2]!]);
  ops.gemm({ out, a: x, b: y });
  const sizeOf = (dim: number): number =>
    left.dims.includes(dim) ? left.x.shape[left.dims.indexOf(dim)]! : right.x.shape[right.dims.indexOf(dim)]!;
  const dims = [...batch, ...rows, ...columns];
  return { x: work.reshape(out, dims.map(sizeOf)), dims };
}

export const einsumKernels: KernelTable = {
  Einsum: kernel<{ equation: string }>(
    both(floats, (inputs, { equation }, { tf }) => {
      const tensors = Object.values(inputs);
      const { allDims } = tf.backend_util.decodeEinsumEquation(equation as string, tensors.length);
      return allDims.length <= maxRank && tensors.every((info) => !isEmpty(info!));
    }),
    (work, inputs, { equation }) => {
      const { backend_util } = work.tf;
      const tensors = Object.values(inputs);
      const { allDims, summedDims, idDims } = backend_util.decodeEinsumEquation(equation, tensors.length);
      backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors as never);
      const outputs = allDims.length - summedDims.length;
      const terms = tensors.map((info, i): Term => ({ x: work.input(info), dims: idDims[i]! }));
      const [a, b] = terms as [Term, Term | undefined];
      const { x, dims } = b ? product(work, a, b, outputs) : summed(work, a, (dim) => dim >= outputs);
      return work.result(
        work.permute(
          x,
          [...Array(outputs).keys()].map((dim) => dims.indexOf(dim)),
        ),
      );
    },
  ),
};
