// Specs of tfjs-core's suite that are not run, by their full names, each group with the reason. The suite fails if an
// entry fits no spec.
export const skips = [];
