/**
 * One engine process, one rank. Its place comes from the environment; `main` starts N of them through
 * `node-collectives launch`.
 */

import { readFileSync } from 'node:fs';
import {
  dpConfigFromEnv,
  hasUnfinishedDp,
  type ProcessGroup,
  statelessInitDpGroup,
  syncDpState,
  syncKvCacheMemorySize,
} from 'node-collectives';
import { freeMemory } from './memory.ts';
import { type Options, parseOptions } from './options.ts';
import { progressLine } from './progress.ts';
import { decodeReports, disagreements, encodeReport, mebibytes, reportTable } from './report.ts';
import { Scheduler } from './scheduler.ts';
import { parseTrace, type Request } from './trace.ts';
import { runWaves, type WaveTotals } from './waves.ts';
import { TokenWork } from './work.ts';

/** Part of the free memory that an engine offers for its KV cache. */
const utilization = 0.9;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help' || options.trace === undefined) throw new Error('start main, not the engine');
  const requests = parseTrace(readFileSync(options.trace, 'utf8')).requests.slice(0, options.limit);

  // Rank 0 listens on the socket that the launcher holds for it: no other job can have the port.
  const group = await statelessInitDpGroup(dpConfigFromEnv(), { groupName: 'dp-engine' });
  try {
    return await serve(group, requests, options);
  } finally {
    await group.close();
  }
}

/** Replays the trace; returns the exit code. */
async function serve(group: ProcessGroup, requests: readonly Request[], options: Options): Promise<number> {
  const { rank, size } = group;
  const free = freeMemory();
  const neighbours = Number(process.env['LOCAL_WORLD_SIZE'] ?? size);
  const offered = Math.floor((free.bytes * utilization) / neighbours);
  const agreed = Number(await syncKvCacheMemorySize(group, offered));
  const kvTokens = Math.floor(agreed / options.kvBytesPerToken);
  if (rank === 0) {
    console.log(
      `${count(size, 'engine')} agreed on ${mebibytes(agreed)} of KV cache each, ${kvTokens} tokens ` +
        `(this one offered ${mebibytes(offered)}, limited by ${free.limitedBy})`,
    );
  }

  const work = new TokenWork(options.work);
  const { maxBatch, tokensPerStep } = options;
  const scheduler = new Scheduler({ maxBatch, tokensPerStep, kvTokens }, work);
  const mine = requests.filter((request) => request.index % size === rank).length;
  const progress = (totals: WaveTotals) => {
    const { finished, refused, generatedTokens } = scheduler.totals;
    const { steps: step, waves: wave } = totals;
    console.log(progressLine({ finished: finished + refused, requests: mine, generatedTokens, step, wave }));
  };

  const start = performance.now();
  let shown = start;
  const totals = await runWaves({
    requests,
    rank,
    size,
    stepSeconds: (options.stepMs / 1000) * options.speed,
    voteEvery: options.voteEvery,
    scheduler,
    work,
    votes: {
      hasUnfinished: (unfinished) => hasUnfinishedDp(group, unfinished),
      state: (state) => syncDpState(group, state),
    },
    onProgress: (sofar) => {
      if (performance.now() - shown < options.progressMs) return;
      shown = performance.now();
      progress(sofar);
    },
  });
  const elapsedMs = performance.now() - start;
  progress(totals);

  const { finished, refused, promptTokens, generatedTokens, checksum } = scheduler.totals;
  const { waves, steps, dummySteps, votes, votingMs, fastestVoteMs } = totals;
  const report = encodeReport({
    ...{ requests: finished, refused, promptTokens, generatedTokens, waves, steps, dummySteps },
    ...{ votes, votingMs, fastestVoteMs, offeredBytes: offered, agreedBytes: agreed, elapsedMs },
  });
  const reports = decodeReports(await group.allGather(report));
  const checksums = Uint32Array.of(checksum);
  await group.allReduce(checksums, { op: 'bxor' });

  const wrong = disagreements(reports);
  const done = reports.reduce((sum, r) => sum + r.requests + r.refused, 0);
  if (done !== requests.length) wrong.push(`${done} of ${requests.length} requests were served`);
  for (const text of wrong) console.error(`rank ${rank}: ${text}`);
  if (rank === 0) {
    const { clock } = totals;
    const seconds = (elapsedMs / 1000).toFixed(1);
    console.log(`\n${reportTable(reports)}\n`);
    console.log(
      `${count(waves, 'wave')}, ${clock.toFixed(0)} s of simulated time in ${seconds} s, checksum ${hex(checksums)}`,
    );
    const out = reports.reduce((sum, r) => sum + r.refused, 0);
    if (out > 0) console.log(`${count(out, 'request')} did not fit into a KV cache of ${kvTokens} tokens`);
    if (wrong.length === 0) console.log(`${count(size, 'engine')} ended at step ${steps}, wave ${waves}`);
  }
  return wrong.length === 0 ? 0 : 3;
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}

function hex(values: Uint32Array): string {
  return (values[0] ?? 0).toString(16).padStart(8, '0');
}

try {
  // Not process.exit(): output may still be on its way.
  process.exitCode = await main();
} catch (error) {
  const code = (error as { code?: string }).code;
  console.error(code === undefined ? error : `${code}: ${(error as Error).message}`);
  process.exitCode = 1;
}
