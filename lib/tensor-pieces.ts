// Large tensors in pieces, on their way between the host and a device, so that neither converting nor copying holds up
// the event loop.
import { Halves } from "./dtype.js";
import { native, ops } from "./native.js";
import { allocate, type FloatTensor, type Tensor } from "./tensor.js";
import { pieceLength } from "./turns.js";

/** Bytes on their way to a device from which on the next wait here: where it is its bound, `set` would hold the thread. */
const mostUploading = 4 * 2 ** 20;

/** Overwrites a contiguous tensor with all of its elements, which come in row-major order. */
export async function setPieces(tensor: FloatTensor, pieces: AsyncIterable<Float32Array | Halves>): Promise<void> {
  let at = 0;
  for await (const values of pieces) {
    await setPart(tensor, at, values);
    at += values.length;
  }
}

/** Overwrites the elements of a contiguous tensor from the `at`-th in row-major order on. */
export async function setPart(tensor: FloatTensor, at: number, values: Float32Array | Halves): Promise<void> {
  if (tensor.device.memory().uploading >= mostUploading) await written(tensor);
  using part = tensor.viewAs([values.length], [1], at, false);
  if (values instanceof Halves) setHalves(part, values);
  else part.set(values);
}

/** Half as many bytes go to the device as of f32, and none is rounded where it has the dtype. */
function setHalves(target: FloatTensor, { dtype, bits }: Halves): void {
  if (target.dtype === dtype) native.upload(target.handle, bits);
  else {
    using source = allocate(target.shape, dtype, target.device, false);
    native.upload(source.handle, bits);
    ops.copy({ out: target, inp: source });
  }
  target.overwritten();
}

/** Resolves once everything enqueued so far that writes the tensor has run; rejects as `data()` does. */
async function written(tensor: Tensor): Promise<void> {
  const none = tensor.viewAs([0], [1], 0, false);
  const reached = native.read(none.handle);
  none.dispose();
  await reached;
}

/** Yields a tensor's elements in pieces of `pieceLength`. The tensor must not be written to meanwhile. */
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
