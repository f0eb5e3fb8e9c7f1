// Large tensors move between the host and a device in pieces, so that neither converting nor copying blocks the event
// loop.
import { Halves } from "./dtype.js";
import { native, ops } from "./native.js";
import { allocate, type FloatTensor, type Tensor } from "./tensor.js";
import { pieceLength } from "../util/turns.js";

/**
 * Bytes on their way to a device above which the next piece waits here, without blocking. At its own limit, `set` would
 * block the thread.
 */
const mostUploading = 4 * 2 ** 20;

/** Overwrites a contiguous tensor with pieces that hold all of its elements in row-major order. */
export async function setPieces(
  tensor: FloatTensor | Tensor<"u8">,
  pieces: AsyncIterable<Float32Array | Halves | Uint8Array>,
): Promise<void> {
  let at = 0;
  for await (const values of pieces) {
    await setPart(tensor, at, values);
    at += values.length;
  }
}

/** Overwrites the elements of a contiguous tensor from position `at` in row-major order. */
export async function setPart(
  tensor: FloatTensor | Tensor<"u8">,
  at: number,
  values: Float32Array | Halves | Uint8Array,
): Promise<void> {
  if (tensor.device.memory().uploading >= mostUploading) await written(tensor);
  using part: Tensor = tensor.viewAs([values.length], [1], at, false);
  if (values instanceof Halves) setHalves(part as FloatTensor, values);
  else part.set(values);
}

/**
 * Overwrites a tensor with bf16 or f16 numbers. They are sent as they are, in half the bytes of f32, and only converted
 * if the tensor has another dtype.
 */
function setHalves(target: FloatTensor, { dtype, bits }: Halves): void {
  if (target.dtype === dtype) native.upload(target.handle, bits);
  else {
    using source = allocate(target.shape, dtype, target.device, false);
    native.upload(source.handle, bits);
    ops.copy({ out: target, inp: source });
  }
  target.overwritten();
}

/** Waits until everything enqueued so far that writes the tensor has run; rejects if `data()` would. */
async function written(tensor: Tensor): Promise<void> {
  const none = tensor.viewAs([0], [1], 0, false);
  const reached = native.read(none.handle);
  none.dispose();
  await reached;
}

/** Yields a tensor's elements in pieces of `pieceLength`. The tensor must not change meanwhile. */
export async function* readPieces(tensor: FloatTensor): AsyncGenerator<Float32Array> {
  const whole = tensor.toContiguous();
  try {
    for (let at = 0; at < tensor.size; at += pieceLength) {
      const part = whole.viewAs([Math.min(pieceLength, tensor.size - at)], [1], at, false);
      const values = part.data();
      part.dispose();
      yield await values;
    }
  } finally {
    whole.dispose();
  }
}
