// A process may end in any stage of its group's life and in any way: no hang, no crash, and the other ranks
// of the group hear of it at once.
import { hasUnfinishedDp, ProcessGroup } from 'node-collectives';
import { describe, expect, test } from 'vitest';
import { type Failure, meeting } from '../fixtures/lifecycle/groups.ts';
import { type RankProcess, startRank } from '../helpers/ranks.ts';
import { createOnHost } from '../helpers/spread.ts';

const stages = ['making', 'joining', 'idle', 'waiting', 'voting', 'blocking', 'closing', 'closed'] as const;
const ways = {
  main: ['return', 'exit', 'throw', 'reject', 'sigterm'],
  worker: ['return', 'exit', 'throw', 'reject', 'terminate', 'hostExit'],
} as const;
// While a thread blocks, nothing can be done on it.
const notWhileBlocking = ['exit', 'throw', 'reject'];
/** Far more than any of it takes: a hang is what fails. */
const hangMs = 20_000;
const promptMs = 1_000;

type Where = keyof typeof ways;
type Stage = (typeof stages)[number];
type Way = (typeof ways)[Where][number];

interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** A worker's exit code, and what it threw. */
  workerCode?: number;
  workerError?: string;
}

const endings: Record<Where, Partial<Record<Way, Ending>>> = {
  main: {
    return: { code: 0, signal: null },
    exit: { code: 7, signal: null },
    throw: { code: 1, signal: null },
    reject: { code: 1, signal: null },
    sigterm: { code: null, signal: 'SIGTERM' },
  },
  worker: {
    return: { code: 0, signal: null, workerCode: 0 },
    exit: { code: 0, signal: null, workerCode: 7 },
    throw: { code: 0, signal: null, workerCode: 1, workerError: 'on purpose' },
    reject: { code: 0, signal: null, workerCode: 1, workerError: 'on purpose' },
    terminate: { code: 0, signal: null, workerCode: 1 },
    hostExit: { code: 7, signal: null },
  },
};

describe.each(['main', 'worker'] as const)('a rank on a %s thread', (where) => {
  test.each(stages)('may end while %s', { timeout: 60_000 }, async (stage) => {
    const apply = ways[where].filter((way) => stage !== 'blocking' || !notWhileBlocking.includes(way));
    // The victim is rank 0, which hosts the store, in every other case.
    await Promise.all(apply.map((way, i) => endsWell(where, stage, way, (i + stages.indexOf(stage)) % 2)));
  });
});

async function endsWell(where: Where, stage: Stage, way: Way, victimRank: number): Promise<void> {
  // What has to end by itself does so by its time-out.
  const lasts = way === 'return' && ['making', 'joining', 'waiting', 'blocking', 'closing'].includes(stage);
  const limits = lasts ? { timeoutMs: 800, ...(stage === 'making' ? { initTimeoutMs: 800 } : {}) } : {};
  const alone = stage === 'making';
  const shared = await meeting(
    stage === 'joining' ? 3 : 2,
    // The victim's own look at the store is without a secret.
    { secret: null, ...(lasts && stage === 'joining' ? { initTimeoutMs: 5_000 } : {}) },
  );
  if (stage === 'joining') shared.masterPort = shared.masterPort.slice(0, 1);
  const plan = {
    where,
    stage,
    way,
    storePort: shared.masterPort[0],
    create: { ...shared, ...limits, rank: victimRank },
  };
  const victim = startRank('lifecycle/victim.mjs', {
    args: [JSON.stringify(plan)],
    name: `${stage}, ${way}`,
    rank: victimRank,
  });
  const context = `${where}, ${stage}, ${way}, rank ${victimRank}`;
  const heard = alone ? undefined : witness(stage, { ...shared, rank: 1 - victimRank }, victim);

  await victim.next('there', hangMs);
  if (way === 'sigterm') victim.kill('SIGTERM');
  expect(await endOf(victim), `${context}\n${victim.output}`).toEqual(endings[where][way]);

  if (heard === undefined) return;
  const { error, ms } = await heard;
  expect(error.name, `${context}: ${error.stack}`).toMatch(/^(RankLost|Aborted|Timeout)Error$/);
  // In a group of three that nobody left too early, it is the third that is to blame.
  const blamed = stage === 'joining' && way === 'return' ? 2 : victimRank;
  expect([error.peer, error.rank], `${context}: ${error.message}`).toContain(blamed);
  expect(ms, `${context}: ${error.message}`).toBeLessThan(promptMs);
}

async function endOf(victim: RankProcess): Promise<Ending> {
  const late = AbortSignal.timeout(hangMs);
  const hung = new Promise<never>((_, reject) => {
    late.addEventListener('abort', () => reject(new Error(`${victim.name} hangs:\n${victim.output}`)));
  });
  const end: Ending = await Promise.race([victim.exited, hung]);
  const take = (event: string) => victim.events.find((each) => each.event === event);
  const exited = take('workerExit');
  const failed = take('workerError');
  if (exited !== undefined) end.workerCode = exited['code'];
  if (failed !== undefined) end.workerError = failed['message'];
  return end;
}

/** The other rank: what it hears, and how long after the victim's end. */
async function witness(
  stage: Stage,
  options: Parameters<typeof ProcessGroup.create>[0],
  victim: RankProcess,
): Promise<{ error: Failure; ms: number }> {
  let gone = Number.POSITIVE_INFINITY;
  void victim.exited.then(() => {
    gone = performance.now();
  });
  let group: ProcessGroup | undefined;
  try {
    group = await createOnHost(options.rank, () => ProcessGroup.create(options));
    if (stage === 'voting') for (;;) await hasUnfinishedDp(group, false);
    // In these stages the victim waits for this rank, so it does not come before the victim is gone.
    if (['waiting', 'blocking', 'closing'].includes(stage)) await victim.exited;
    await hasUnfinishedDp(group, false);
    throw new Error('the vote succeeded without the other rank');
  } catch (error) {
    const ms = performance.now() - Math.min(gone, performance.now());
    await group?.close();
    return { error: error as Failure, ms };
  }
}
