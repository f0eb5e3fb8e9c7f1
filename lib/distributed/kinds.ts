// The numbers that stand for collective operations in the addon (native/comm/operation.h).

/** Operations that all processes of a run call together. */
export const kinds = { allReduce: 0, broadcast: 1, reduceScatter: 2, allGather: 3, barrier: 4 } as const;

/** Ways in which the values of the processes are combined. */
export const reductions = { sum: 0, max: 1 } as const;

/** Types of numbers on the wire. */
export const wires = { f32: 0, f64: 1, bf16: 2, byte: 3 } as const;

/** Way in which the values of the processes are combined: their sum, or the largest. */
export type Reduction = keyof typeof reductions;
