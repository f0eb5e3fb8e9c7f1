// A model of one's own, made of heed's modules: a multilayer perceptron that learns whether a point lies in a circle. It
// shows what a training loop consists of.
//
//   node examples/custom-model.ts
import {
  activate,
  AdamW,
  device,
  type FloatTensor,
  Initializer,
  Linear,
  Module,
  mean,
  scope,
  square,
  sub,
  tensor,
} from "heed";

class Perceptron extends Module {
  readonly hidden: Linear;
  readonly output: Linear;

  constructor(width: number, init: Initializer) {
    super();
    // Tensors and modules that are properties become parameters and children, named after the property.
    this.hidden = new Linear({ inputs: 2, outputs: width, bias: true, std: 0.5 }, init);
    this.output = new Linear({ inputs: width, outputs: 1, bias: true, std: 0.1 }, init);
  }

  /** x [B, 2] → [B, 1] */
  forward(x: FloatTensor): FloatTensor {
    return this.output.forward(activate(this.hidden.forward(x), "gelu"));
  }
}

const points = Array.from({ length: 256 }, (_, i) => [Math.sin(i * 12.9), Math.sin(i * 78.2)] as const);
using inputs = tensor(Float32Array.from(points.flat()), [points.length, 2]);
const inside = points.map(([x, y]) => (x * x + y * y < 0.5 ? 1 : 0));
using targets = tensor(Float32Array.from(inside), [points.length, 1]);

using model = new Perceptron(32, new Initializer(1, device()));
using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2 });
for (let step = 0; step <= 300; step++) {
  // `scope` frees what the step made, but for the loss, which it returns.
  using loss = scope(() => {
    const loss = mean(square(sub(model.forward(inputs), targets)));
    loss.backward();
    optimizer.step();
    optimizer.zeroGrad();
    return loss;
  });
  if (step % 100 === 0) console.log(`step ${step}: loss ${(await loss.item()).toFixed(4)}`);
}
using outputs = scope(() => model.forward(inputs));
const right = (await outputs.data()).filter((value, i) => (value > 0.5 ? 1 : 0) === inside[i]).length;
console.log(`${right} of ${points.length} points are classified correctly`);
