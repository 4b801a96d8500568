/** Whether this machine has other things to do: what is measured on a busy one is the machine. */
import { readFileSync } from 'node:fs';

interface Ticks {
  idle: number;
  all: number;
}

/** Of all processors together, since the machine started. */
function ticks(): Ticks {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  // user nice system idle iowait irq softirq steal; what guests use is in user already.
  const times = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const [, , , idle = 0, iowait = 0] = times;
  return { idle: idle + iowait, all: times.reduce((sum, time) => sum + time, 0) };
}

/** The share of the processors' time that others use in the next second, in which this process does nothing. */
export async function othersUse(): Promise<number> {
  const before = ticks();
  await new Promise((resolve) => setTimeout(resolve, 1_000)); // the time itself is what is looked at
  const after = ticks();
  return 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
}
