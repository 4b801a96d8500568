// dieWithParent(): real parents, killed; their children must be gone, whatever they are doing. The child holds the
// parent's stdout, so `exited` of the parent comes once both are gone.
import { readFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { freePort } from '../helpers/gpu-ranks.ts';
import { join, processes } from '../helpers/meeting.ts';
import { type RankProcess, startRank } from '../helpers/ranks.ts';

/** Both are gone; what the parent was ended by. */
async function killed(parent: RankProcess): Promise<void> {
  parent.kill();
  expect(await parent.exited).toEqual({ code: null, signal: 'SIGKILL' });
}

function family(plan: object): RankProcess {
  return startRank('process/parent.mjs', { args: [JSON.stringify({ how: 'call', stage: 'idle', ...plan })] });
}

/** Ends what a test has left, should it fail: a child is nobody's here. */
function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // As it should be.
  }
}

async function there(plan: object): Promise<{ parent: RankProcess; pid: number }> {
  const parent = family(plan);
  const { pid } = await parent.next('child');
  try {
    await parent.next('there');
  } catch (error) {
    end(pid);
    throw error;
  }
  return { parent, pid };
}

const stateOf = (pid: number): string => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] ?? 'X';
  } catch {
    return 'X';
  }
};

/** Its descriptors are closed a moment before it is no process any more. */
async function gone(pid: number): Promise<void> {
  await vi.waitFor(() => expect('XZ').toContain(stateOf(pid)), { timeout: 10_000, interval: 5 });
}

describe('a parent that is killed takes with it a child', () => {
  test.each([
    ['that is idle', {}],
    ['whose JavaScript thread is blocked', { stage: 'blocked' }],
    ['that asked in a worker, which has ended', { how: 'worker' }],
    ['that asked in a worker and is blocked', { how: 'worker', stage: 'blocked' }],
    ['by another signal', { options: { signal: 'SIGTERM' } }],
    [
      'by another signal, blocked and with a handler',
      { options: { signal: 'SIGTERM', graceMs: 50 }, handler: 'SIGTERM', stage: 'blocked' },
    ],
  ])('%s', async (_, plan) => {
    const { parent, pid } = await there(plan);
    const { pid: watched } = await parent.next('asked');
    expect(watched).toBe(parent.pid);
    expect('XZ').not.toContain(stateOf(pid));
    await killed(parent);
    await gone(pid);
  });

  test('that is stopped', async () => {
    const { parent, pid } = await there({});
    process.kill(pid, 'SIGSTOP');
    await killed(parent);
    await gone(pid);
  });

  test('that was started by a thread which has ended, and not before', async () => {
    const { parent, pid } = await there({ from: 'worker' });
    parent.send({});
    await parent.next('workerEnded');
    process.kill(pid, 'SIGUSR2');
    await parent.next('alive');
    await killed(parent);
    await gone(pid);
  });

  test('that answers the signal, after the grace time', async () => {
    const { parent, pid } = await there({ options: { signal: 'SIGTERM', graceMs: 50 }, handler: 'SIGTERM' });
    parent.kill();
    await parent.next('signal');
    await parent.exited;
    await gone(pid);
  });
});

test('a child that has not asked outlives its parent', async () => {
  const { parent, pid } = await there({ how: 'none' });
  try {
    parent.kill();
    process.kill(pid, 'SIGUSR2');
    await parent.next('alive');
  } finally {
    end(pid);
  }
  await parent.exited;
});

describe('a parent that has gone before', () => {
  test('and is named: the child ends instead of going on', async () => {
    const parent = family({ late: true, leave: true, name: true });
    const { pid } = await parent.next('child');
    await parent.exited;
    await gone(pid);
    expect(parent.events.map(({ event }) => event)).toEqual(['started']);
    expect(parent.output).toContain(`is not the parent of pid ${pid} any more, which ends by SIGKILL`);
  });

  test('and is named by the variable', async () => {
    const create = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1 };
    const parent = family({ late: true, leave: true, how: 'variable', create });
    const { pid } = await parent.next('child');
    await parent.exited;
    await gone(pid);
    expect(parent.events.map(({ event }) => event)).toEqual(['started']);
  });
});

describe('ranks of a group', () => {
  const alone = { masterAddr: '127.0.0.1', masterPort: 0, rank: 0, worldSize: 1 };

  test.each([undefined, '1'])(
    'the variable, %s: from its first group on; its own children do not inherit it',
    async (value) => {
      const parent = family({ how: 'variable', value, create: alone });
      const said = await parent.next('there');
      expect(said['variable']).toBeUndefined();
      await killed(parent);
      await gone(said['pid']);
    },
  );

  /** A child that is rank 1 and a process of the test's that is rank 0. */
  async function two(plan: object, size = 2) {
    const [survivor] = (await processes(1)) as [RankProcess];
    const masterPort = await freePort();
    join(survivor, 0, size, masterPort);
    const create = {
      masterAddr: '127.0.0.1',
      masterPort,
      rank: 1,
      worldSize: size,
      groupName: 'g',
      initTimeoutMs: 20_000,
    };
    return { survivor, ...(await there({ ...plan, create })) };
  }

  test.each([
    ['waiting in an operation', { stage: 'waiting' }],
    ['blocked in JavaScript while the others wait for it', { stage: 'blocked' }],
  ])('one that dies with its parent while %s is lost by name', async (_, plan) => {
    const { survivor, parent, pid } = await two(plan);
    await survivor.next('formed');
    if (plan.stage === 'blocked') survivor.send({ do: 'vote', id: 'g', value: false });
    await killed(parent);
    const { error } = await survivor.next('lost');
    expect(error).toMatchObject({ code: 'RANK_LOST', rank: 1, pid });
    if (plan.stage === 'blocked') {
      expect((await survivor.next('voteFailed'))['error']).toMatchObject({ code: 'RANK_LOST', rank: 1, pid });
    }
  });

  test('one that dies with its parent while it joins is lost by name', async () => {
    const { survivor, parent, pid } = await two({ stage: 'joining' }, 3);
    await killed(parent);
    expect((await survivor.next('failed'))['error']).toMatchObject({ code: 'RANK_LOST', rank: 1, pid });
  });
});
