/**
 * Convolutions and pooling of images [B, H, W, C]. Other layouts and gradients of another size than the convolution's
 * result are left to the host.
 *
 * A depthwise filter [h, w, C, M] makes M channels of each. Its elements lie in memory as those of a filter [h, w, C · M],
 * which convolves an image whose channels stand M times beside each other.
 */
import type { backend_util } from "@tensorflow/tfjs-core";
import { ops } from "../../../core/native.js";
import { nativeActivations } from "../../../core/native-kinds.js";
import { numel, sameShape } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { both, type DeviceKernel, floats, kernel, type KernelTable } from "../table.js";
import type { Attributes, Inputs, TensorInfo } from "../types.js";
import type { Work } from "../work.js";
import { activated } from "./activations.js";

type Info = backend_util.Conv2DInfo;
type Sizes = [number, number, number, number];

interface Window {
  strides: number | [number, number];
  pad: "valid" | "same" | number;
  dilations?: number | [number, number] | null;
  dimRoundingMode?: "floor" | "round" | "ceil";
  filterShape?: Sizes;
  inputShape?: Sizes;
}

interface Pool extends Window {
  filterSize: number | [number, number];
}

type PoolGradient = Parameters<typeof ops.max_pool2d_backward>[0];

interface Fused extends Window {
  activation?: string;
  leakyreluAlpha?: number;
}

/** Returns true if the images have their channels last, the only layout that the device's kernels read. */
const channelsLast = (_: Inputs, { dataFormat = "NHWC" }: Attributes): boolean => dataFormat === "NHWC";

function convolution({ tf }: Work, image: number[], filter: number[], attrs: Window, depthwise = false): Info {
  const { strides, pad, dilations, dimRoundingMode } = attrs;
  return tf.backend_util.computeConv2DInfo(
    image as Sizes,
    filter as Sizes,
    strides,
    dilations ?? 1, // which is null in models of tfjs-layers
    pad,
    dimRoundingMode,
    depthwise,
  );
}

/** Returns the options of a window as heed's operations take them. */
function windows({ strideHeight, strideWidth, padInfo, dilationHeight, dilationWidth }: Info) {
  return {
    ...{ strideH: strideHeight, strideW: strideWidth, padTop: padInfo.top, padLeft: padInfo.left },
    ...{ dilationH: dilationHeight, dilationW: dilationWidth },
  };
}

/** The operations and the shape of a filter of a kind of convolution. */
interface Kind {
  depthwise: boolean;
  forward: typeof ops.conv2d;
  input: typeof ops.conv2d_input;
  filter: typeof ops.conv2d_filter;
  /** Returns the shape of a filter as the operations take it. */
  shape: (filter: readonly number[]) => number[];
  /** Returns how many times each channel of the images is needed. */
  copies: (filter: readonly number[]) => number;
}

const dense: Kind = {
  depthwise: false,
  forward: (operands) => ops.conv2d(operands),
  input: (operands) => ops.conv2d_input(operands),
  filter: (operands) => ops.conv2d_filter(operands),
  shape: (filter) => [...filter],
  copies: () => 1,
};
const depthwise: Kind = {
  depthwise: true,
  forward: (operands) => ops.depthwise_conv2d(operands),
  input: (operands) => ops.depthwise_conv2d_input(operands),
  filter: (operands) => ops.depthwise_conv2d_filter(operands),
  shape: ([height, width, channels, multiplier]) => [height!, width!, channels! * multiplier!],
  copies: (filter) => filter[3]!,
};
const takes = both(floats, channelsLast);

/** Returns the images with each channel repeated: `copies` of it stand beside each other. */
function repeated(work: Work, x: Tensor, copies: number): Tensor {
  if (copies === 1) return x;
  const view = work.view(x, [...x.shape, copies], [...x.strides, 0]);
  return work.reshape(view, [...x.shape.slice(0, 3), x.shape[3]! * copies]);
}

function convolved(work: Work, kind: Kind, x: TensorInfo, filter: TensorInfo, attrs: Window, epilogue: object): Tensor {
  const info = convolution(work, x.shape, filter.shape, attrs, kind.depthwise);
  const out = work.make(info.outShape);
  const weights = work.input(filter, kind.shape(filter.shape));
  const inp = repeated(work, work.input(x), kind.copies(filter.shape));
  kind.forward({ out, inp, filter: weights, ...windows(info), ...epilogue });
  return out;
}

const forward = (kind: Kind): DeviceKernel =>
  kernel<Window>(takes, (work, { x, filter }, attrs) => work.result(convolved(work, kind, x!, filter!, attrs, {})));

const fused = (kind: Kind): DeviceKernel =>
  kernel<Fused>(takes, (work, { x, filter, bias, preluActivationWeights }, attrs) => {
    const { activation = "linear", leakyreluAlpha } = attrs;
    const channels = kind.shape(filter!.shape).at(-1)!;
    const row = bias && numel(bias.shape) === channels ? bias : undefined;
    const whole = !bias || row;
    const inside = whole && (activation === "relu" || activation === "sigmoid") ? activation : "none";
    const epilogue = { bias: row && work.input(row, [channels]), activation: nativeActivations[inside] };
    let out = convolved(work, kind, x!, filter!, attrs, epilogue);
    if (bias && !row) out = work.binary("add", out, work.input(bias));
    if (inside === "none")
      out = activated(work, out, { activation, alpha: leakyreluAlpha, prelu: preluActivationWeights });
    return work.result(out);
  });

/** Returns the check that dy has the size of the convolution's result, which TensorFlow.js does not make. */
const fits =
  (kind: Kind): DeviceKernel["takes"] =>
  ({ x, dy, filter }, { inputShape = x?.shape, filterShape = filter?.shape, ...attrs }, work) => {
    const { outShape } = convolution(
      work,
      inputShape as Sizes,
      filterShape as Sizes,
      attrs as unknown as Window,
      kind.depthwise,
    );
    return sameShape(dy!.shape, outShape);
  };

const inputGradient = (kind: Kind): DeviceKernel =>
  kernel<Window>(both(takes, fits(kind)), (work, { dy, filter }, attrs) => {
    const info = convolution(work, attrs.inputShape!, filter!.shape, attrs, kind.depthwise);
    const [batch, height, width, channels] = info.inShape;
    const copies = kind.copies(filter!.shape);
    const dinp = work.make([batch, height, width, channels * copies]);
    const weights = work.input(filter!, kind.shape(filter!.shape));
    kind.input({ dinp, dout: work.input(dy!), filter: weights, ...windows(info) });
    if (copies === 1) return work.result(dinp);
    const parts = work.reshape(dinp, [...info.inShape, copies]);
    return work.result(work.reduce("sum", parts, [4]), "float32", info.inShape);
  });

const filterGradient = (kind: Kind): DeviceKernel =>
  kernel<Window>(both(takes, fits(kind)), (work, { x, dy }, attrs) => {
    const info = convolution(work, x!.shape, attrs.filterShape!, attrs, kind.depthwise);
    const dfilter = work.make(kind.shape(info.filterShape));
    const inp = repeated(work, work.input(x!), kind.copies(info.filterShape));
    kind.filter({ dfilter, inp, dout: work.input(dy!), ...windows(info) });
    return work.result(dfilter, "float32", info.filterShape);
  });

function pooling({ tf }: Work, image: number[], attrs: Pool) {
  const { filterSize, strides, pad, dimRoundingMode } = attrs;
  const info = tf.backend_util.computePool2DInfo(image as Sizes, filterSize, strides, 1, pad, dimRoundingMode);
  const window = { windowH: info.filterHeight, windowW: info.filterWidth };
  return { info, window: { ...window, ...windows(info) } };
}

const pool = (op: typeof ops.max_pool2d): DeviceKernel =>
  kernel<Pool>(floats, (work, { x }, attrs) => {
    const { info, window } = pooling(work, x!.shape, attrs);
    // TensorFlow.js defines this case as the identity, even where padding and strides would move the image.
    const single = window.windowH * window.windowW === 1;
    if (single && sameShape(x!.shape, info.outShape)) return work.result(work.input(x!));
    const out = work.make(info.outShape);
    op({ out, inp: work.input(x!), ...window });
    return work.result(out);
  });

/** Takes gradients dy of the size of the result, as `fits`. */
const poolGradient = (run: (operands: PoolGradient) => void): DeviceKernel =>
  kernel<Pool>(
    both(floats, ({ dy, input }, attrs, work) =>
      sameShape(dy!.shape, pooling(work, input!.shape, attrs as unknown as Pool).info.outShape),
    ),
    (work, { dy, input }, attrs) => {
      const { window } = pooling(work, input!.shape, attrs);
      const dinp = work.make(input!.shape);
      run({ dinp, dout: work.input(dy!), inp: work.input(input!), ...window });
      return work.result(dinp);
    },
  );

export const convolutionKernels: KernelTable = {
  Conv2D: forward(dense),
  FusedConv2D: fused(dense),
  Conv2DBackpropInput: inputGradient(dense),
  Conv2DBackpropFilter: filterGradient(dense),
  DepthwiseConv2dNative: forward(depthwise),
  FusedDepthwiseConv2D: fused(depthwise),
  DepthwiseConv2dNativeBackpropInput: inputGradient(depthwise),
  DepthwiseConv2dNativeBackpropFilter: filterGradient(depthwise),
  MaxPool: pool((operands) => ops.max_pool2d(operands)),
  MaxPoolGrad: poolGradient((operands) => ops.max_pool2d_backward(operands)),
  AvgPool: pool((operands) => ops.avg_pool2d(operands)),
  // This gradient of TensorFlow.js divides by the whole window at the borders too, although AvgPool does not.
  AvgPoolGrad: poolGradient(({ inp: _, ...operands }) => ops.avg_pool2d_backward({ ...operands, countPadding: true })),
};
