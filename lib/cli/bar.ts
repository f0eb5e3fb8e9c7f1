import cliProgress from "cli-progress";

/** Returns a progress bar that counts things, such as "tensors". It shows nothing unless stdout is a terminal. */
export function createBar(things: string): { show: (done: number, all: number) => void; end: () => void } {
  if (!process.stdout.isTTY) return { show: () => undefined, end: () => undefined };
  const bar = new cliProgress.SingleBar({
    format: `{bar} {value} of {total} ${things}`,
    barsize: 20,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    stream: process.stdout,
  });
  let begun = false;
  return {
    show(done, all) {
      if (!begun) bar.start(all, 0);
      begun = true;
      bar.update(done);
    },
    end: () => bar.stop(),
  };
}
