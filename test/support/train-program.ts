/**
 * Returns the source of `async function train(seed)` for a child process or a worker that has `heed`. It trains a small
 * GPT for `steps` steps and resolves to its `losses` and to the greedy `tokens` that it then generates. Any difference
 * in training would change them.
 */
export const trainProgram = (steps: number): string => `
  async function train(seed) {
    const model = new heed.GPT({ vocabularySize: 17, contextLength: 8, layers: 1, heads: 2, width: 16 }, { seed });
    const optimizer = new heed.AdamW(model.namedParameters(), { lr: 1e-2, maxNorm: 1 });
    const ids = heed.tensor(Int32Array.from({ length: 32 }, (_, i) => (i * 7 + seed) % 17), [4, 8]);
    const losses = [];
    for (let step = 0; step < ${steps}; step++) {
      const loss = heed.scope(() => {
        const loss = model.loss(ids, ids);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      });
      losses.push(await loss.item());
      loss.dispose();
    }
    const [{ tokens }] = await heed.generateTokens(model, [[1, 2]], { maxTokens: 6, temperature: 0 });
    return { losses, tokens: [...tokens] };
  }
`;
