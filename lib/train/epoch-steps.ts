// The number of steps in epochs, in whole numbers: a quotient that is rounded first, such as 21 / 5 / 3, may end up just
// above a whole number, and rounding it up would add a step.

/**
 * Returns the number of steps in which `epochs` epochs of `items` items each are read, `perStep` of them in a step. Epochs
 * follow each other within a step; a step that the last epoch fills only in part counts, and reads on in the next epoch.
 */
export function stepsOfEpochs(epochs: number, items: number, perStep: number): number {
  const total = epochs * items;
  const nearest = Math.round(total);
  // A fraction such as 5/3 is itself rounded, by at most 2^-53 of it, and so is its product with the number of items.
  const whole = Math.abs(total - nearest) <= nearest * 2 ** -51 ? nearest : Math.ceil(total);
  const rest = whole % perStep;
  return Math.max(1, (whole - rest) / perStep + (rest > 0 ? 1 : 0));
}
