/**
 * A rank process of the campaigns. Its parent says over the IPC channel what to do; it says what happened, with
 * times of the clock that all processes of a host share (CLOCK_MONOTONIC, ns).
 */
import { subscribe } from 'node:diagnostics_channel';
import { readdirSync } from 'node:fs';
import {
  CollectivesError,
  hasUnfinishedDp,
  ProcessGroup,
  type ProcessGroupOptions,
  TcpStore,
} from 'node-collectives';
import { median } from '../../bench/statistics.ts';
import type { Command, Said } from './protocol.ts';
import { Random } from './random.ts';
import { step } from './work.ts';

const now = () => Number(process.hrtime.bigint());
const say = (what: Said) => process.send?.(what);

let store: TcpStore | undefined;
let group: ProcessGroup | undefined;
let control = new AbortController();

const facts = (error: unknown) =>
  error instanceof CollectivesError
    ? { ...error, name: error.name, code: error.code, message: error.message }
    : { name: 'Error', code: 'NOT_OURS', message: String(error instanceof Error ? error.stack : error) };

// The moment at which this process knows, whether a call waits or not.
subscribe('node-collectives:failed', (message) => {
  const { error } = message as { error: CollectivesError };
  say({ event: 'knew', at: now(), error: facts(error) });
});

async function join(command: Command & { do: 'join' }): Promise<void> {
  // That of a round before is not what a command means from now on.
  group = undefined;
  control = new AbortController();
  const { signal } = control;
  if (command.storePort !== 0)
    store ??= await TcpStore.connect({ host: '127.0.0.1', port: command.storePort });
  group = await ProcessGroup.create({
    ...(command.options as unknown as ProcessGroupOptions),
    ...(command.storePort === 0 || store === undefined ? {} : { store }),
    signal,
  });
  say({ event: 'formed', at: now() });
  if (command.work === 'idle') return;
  const random = new Random(command.seed);
  for (;;) await step(group, random, command.scale);
}

async function reform(command: Command & { do: 'reform' }): Promise<void> {
  const old = group as ProcessGroup;
  const began = now();
  const { timeoutMs, ranks, worldSize } = command;
  group = await old.reform({
    timeoutMs,
    ...(ranks === undefined ? {} : { ranks }),
    ...(worldSize === undefined ? {} : { worldSize }),
  });
  say({ event: 'reformed', at: now(), began, rank: group.rank, size: group.size });
}

async function sail({ steps, seed, scale }: Command & { do: 'sail' }): Promise<void> {
  const random = new Random(seed);
  const here = group as ProcessGroup;
  for (let i = 0; i < steps; i += 1) await step(here, random, scale);
  const micros: number[] = [];
  for (let i = 0; i < 200; i += 1) {
    const began = now();
    await hasUnfinishedDp(here, false);
    micros.push((now() - began) / 1e3);
  }
  global.gc?.();
  const held = {
    resident: process.memoryUsage.rss() / 2 ** 20,
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
  };
  say({ event: 'sailed', at: now(), voteMicros: median(micros), held });
}

async function leave(): Promise<void> {
  const began = now();
  await group?.close();
  group = undefined;
  say({ event: 'left', at: now(), ms: (now() - began) / 1e6 });
}

const failed = (error: unknown) => say({ event: 'ended', at: now(), error: facts(error) });

process.on('message', (command: Command) => {
  if (command.do === 'join') join(command).catch(failed);
  if (command.do === 'reform') reform(command).catch(failed);
  if (command.do === 'leave') leave().catch(failed);
  if (command.do === 'sail') sail(command).catch(failed);
  if (command.do === 'info') {
    const { next } = (group as ProcessGroup).info();
    say({ event: 'info', at: now(), next: { ...next } });
  }
  if (command.do === 'abort') {
    say({ event: 'aborting', at: now() });
    if (group !== undefined && command.how === 'call') group.abort(command.reason);
    else control.abort(new Error(command.reason));
  }
});
// An orphan has nothing to do.
process.on('disconnect', () => process.exit(0));
say({ event: 'ready', at: now() });
