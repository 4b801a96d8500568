/** Whether a group of two ranks forms here, and how fast it is. */
import { randomUUID } from 'node:crypto';
import { CollectivesError } from '../errors.ts';
import { hasUnfinishedDp } from '../group/dp.ts';
import { ProcessGroup } from '../group/process-group.ts';
import { TcpStore } from '../store/tcp-store.ts';
import { type Finding, ok, problem } from './finding.ts';

const votes = 500;

export async function twoRanks(): Promise<Finding> {
  const subject = 'two ranks';
  try {
    const began = performance.now();
    const groups = await form();
    const formedMs = performance.now() - began;
    const micros = await Promise.all(groups.map(vote));
    await Promise.all(groups.map((group) => group.close()));
    const voteMicros = Math.max(...micros);
    return ok(
      subject,
      `a group forms in ${formedMs.toFixed(1)} ms here; a vote takes ${voteMicros.toFixed(0)} µs (median)`,
      { formedMs, voteMicros },
    );
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return problem(subject, `${error.message} (${error.code})`, 'docs/errors.md says what the code means');
  }
}

async function form(): Promise<ProcessGroup[]> {
  await using store = await TcpStore.listen();
  const common = { masterAddr: '127.0.0.1', worldSize: 2, jobId: randomUUID(), groupName: 'doctor', store };
  const limits = { initTimeoutMs: 10_000, timeoutMs: 10_000 };
  return await Promise.all(
    [0, 1].map((rank) => ProcessGroup.create({ ...common, ...limits, rank, backend: 'gloo' })),
  );
}

async function vote(group: ProcessGroup): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < votes; i += 1) {
    const began = performance.now();
    await hasUnfinishedDp(group, false);
    times.push((performance.now() - began) * 1_000);
  }
  return times.sort((a, b) => a - b)[votes >> 1] as number;
}
