// A model of the time that processes need to sum their gradients, and what follows from it for other machines.

/** Time of an all-reduce: `latency` + bytes · `secondsPerByte`, in seconds. */
export interface Line {
  latency: number;
  secondsPerByte: number;
}

/** Returns the line whose relative errors have the least squares. */
export function fit(points: readonly { bytes: number; seconds: number }[]): Line {
  // Each point is divided by its time: 1 ≈ latency · (1/t) + slope · (bytes/t).
  let [aa, ab, bb, ay, by] = [0, 0, 0, 0, 0];
  for (const { bytes, seconds } of points) {
    const [a, b] = [1 / seconds, bytes / seconds];
    aa += a * a;
    ab += a * b;
    bb += b * b;
    ay += a;
    by += b;
  }
  const determinant = aa * bb - ab * ab;
  return { latency: (ay * bb - by * ab) / determinant, secondsPerByte: (by * aa - ay * ab) / determinant };
}

export function predict({ latency, secondsPerByte }: Line, bytes: number): number {
  return latency + bytes * secondsPerByte;
}

/** Processes with accelerators, of which all numbers are assumptions. */
export interface Cluster {
  name: string;
  processes: number;
  /** Operations per second that a process does. */
  flops: number;
  /** Bytes per second that a ring of all processes passes on. */
  busBytes: number;
  /** Seconds of a message from one process to the next. */
  hop: number;
}

/** A model to train, with the tokens of a process in a step. */
export interface Load {
  name: string;
  parameters: number;
  tokens: number;
}

/** Prediction for a step, in seconds. */
export interface Prediction {
  computing: number;
  communicating: number;
  /** Share of the speed of as many processes that do not communicate. */
  efficiency: number;
}

/**
 * Predicts a step: 6 operations for each parameter and token, two thirds of them in the backward pass, during which all
 * but the last bucket can be sent; a ring all-reduce passes 2 (R − 1)/R of the bytes through each process (Patarasuk &
 * Yuan 2009).
 */
export function step(
  { processes, flops, busBytes, hop }: Cluster,
  { parameters, tokens }: Load,
  { bytesPerGradient = 4, bucketBytes = 4 * 2 ** 20 } = {},
): Prediction {
  const computing = (6 * parameters * tokens) / flops;
  const backward = (2 / 3) * computing;
  const bytes = parameters * bytesPerGradient;
  const reduce = (of: number): number =>
    (2 * (processes - 1) * of) / (processes * busBytes) + 2 * (processes - 1) * hop;
  const buckets = Math.max(1, Math.ceil(bytes / bucketBytes));
  const communicating = buckets * reduce(bytes / buckets);
  const last = reduce(bytes / buckets);
  const exposed = Math.max(last, communicating - backward);
  return { computing, communicating, efficiency: computing / (computing + exposed) };
}
