// Bugs that `npm run mutants` plants, one at a time: in `file`, the one place that reads `find` becomes `replace`. `tests`
// are the test files that must notice, as parts of their paths.
export const mutants = [];
