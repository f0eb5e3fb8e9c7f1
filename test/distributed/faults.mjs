// Sums tensors of a device, one after the other, until that fails. HEED_TEST_RANKS has variables of the environment by rank.
// HEED_TEST_STOP names a rank that stops before the second sum. A tensor that depends on no sum can be read in any case.
const rank = Number(process.env.OMPI_COMM_WORLD_RANK ?? process.env.PMI_RANK);
Object.assign(process.env, JSON.parse(process.env.HEED_TEST_RANKS ?? "[]")[rank] ?? {});
const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const collectives = await heed.Collectives.open({ timeout: 2 });
console.log(`rank ${rank} is there`);
const device = process.env.HEED_TEST_DEVICE;
const other = heed.add(heed.ones([3], { device }), 1);
try {
  for (let i = 0; i < 4; i++) {
    if (i === 1 && rank === Number(process.env.HEED_TEST_STOP)) process.kill(process.pid, "SIGSTOP");
    const x = heed.mul(heed.ones([1000], { device }), rank + 1);
    collectives.allReduce(x).wait();
    console.log(`rank ${rank}: ${(await heed.mul(x, 2).data())[999]}`);
  }
} catch (error) {
  console.error(`rank ${rank}: ${error.code}: ${error.message}`);
  console.error(`rank ${rank}: another tensor is ${(await other.data())[2]}`);
  process.exit(1);
}
