/**
 * Environment of a process that runs llama.cpp. llama.cpp brings the rows of logits of a batch into the order of its
 * sequences when the first row is read, and node-llama-cpp reads the rows of all sequences at the same time, on the
 * threads of Node.js's pool. Several of them may then exchange the same rows, so that sequences get each other's tokens.
 * A pool of one thread reads one row after the other; llama.cpp computes on threads of its own. llama-batches.ts shows it.
 */
export const llamaEnvironment = { UV_THREADPOOL_SIZE: "1" };
