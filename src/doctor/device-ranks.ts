/**
 * Forms a group with a rank on each of the first N devices, and votes over it. A program of its own, started by
 * device-group.ts, since a broken driver or library may end its process, or never come back.
 *
 * argv: N, initTimeoutMs. Says `device-ranks: ` and JSON on stdout: what was found, or `error`.
 */
import { randomUUID } from 'node:crypto';
import { CollectivesError, InternalError } from '../errors.ts';
import { hasUnfinishedDp } from '../group/dp.ts';
import { ProcessGroup } from '../group/process-group.ts';
import { dieWithParent } from '../process/die-with-parent.ts';
import { TcpStore } from '../store/tcp-store.ts';
import { type DeviceRanks, mark } from './device-group.ts';

const votes = 100;
const [size = 2, initTimeoutMs = 20_000] = process.argv.slice(2).map(Number);

async function form(): Promise<ProcessGroup[]> {
  await using store = await TcpStore.listen();
  const common = {
    masterAddr: '127.0.0.1',
    worldSize: size,
    jobId: randomUUID(),
    groupName: 'doctor',
    store,
  };
  const limits = { initTimeoutMs, timeoutMs: 10_000 };
  return await Promise.all(
    Array.from({ length: size }, (_, rank) =>
      ProcessGroup.create({ ...common, ...limits, rank, backend: 'nccl', device: rank, votes: 'device' }),
    ),
  );
}

/** The median of many votes, in µs; only the last rank votes yes. */
async function vote(group: ProcessGroup): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < votes; i += 1) {
    const began = performance.now();
    if (!(await hasUnfinishedDp(group, group.rank === size - 1)))
      throw new InternalError(`rank ${group.rank} heard no, although rank ${size - 1} voted yes`);
    times.push((performance.now() - began) * 1_000);
  }
  return times.sort((a, b) => a - b)[votes >> 1] as number;
}

async function measure(): Promise<DeviceRanks> {
  try {
    const began = performance.now();
    const groups = await form();
    const formedMs = performance.now() - began;
    const micros = await Promise.all(groups.map(vote));
    const { library } = (groups[0] as ProcessGroup).info();
    await Promise.all(groups.map((group) => group.close()));
    return { library: library?.name ?? 'NCCL', formedMs, voteMicros: Math.max(...micros) };
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

dieWithParent();
// Written at once: what is left of a broken library may end this process otherwise.
process.stdout.write(`\n${mark}${JSON.stringify(await measure())}\n`, () => process.exit(0));
