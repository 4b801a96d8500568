/**
 * Ranks of GPU groups over the stand-ins (docs/gpu-standins.md), in CUDA's and in HIP's flavour, or on whatever an
 * environment of their own leads them to (test/gpu).
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect } from 'vitest';
import { all, type RankProcess, startRanks } from './ranks.ts';
import { type Flavour, standinFile } from './standins.ts';

export type { Flavour };
export const flavours: readonly Flavour[] = ['nccl', 'rccl'];
/** A flavour of the stand-ins, or what finds the libraries otherwise. */
export type Libraries = Flavour | ((rank: number) => NodeJS.ProcessEnv);

/** What finds the stand-ins; a real driver of this machine is never looked at. */
export function standinEnv(flavour: Flavour, library?: string): NodeJS.ProcessEnv {
  const file = (name: string) => {
    const path = standinFile(name);
    if (!existsSync(path)) throw new Error(`${path} is not built: npm run standins`);
    return path;
  };
  const nowhere = standinFile('no-such-library.so');
  return {
    NODE_COLLECTIVES_CUDA_PATH: flavour === 'nccl' ? file('libcuda.so.1') : nowhere,
    NODE_COLLECTIVES_HIP_PATH: flavour === 'rccl' ? file('libamdhip64.so.6') : nowhere,
    NODE_COLLECTIVES_NCCL_PATH: file(library ?? (flavour === 'nccl' ? 'libnccl.so.2' : 'librccl.so.1')),
    CUDA_VISIBLE_DEVICES: undefined,
    HIP_VISIBLE_DEVICES: undefined,
    ROCR_VISIBLE_DEVICES: undefined,
    LOCAL_RANK: undefined,
  };
}

/** What a rank answers; `error` has the facts of an error. */
export interface Answer {
  // biome-ignore lint/suspicious/noExplicitAny: what a fixture says is its own affair
  value?: any;
  // biome-ignore lint/suspicious/noExplicitAny: what a fixture says is its own affair
  error?: any;
  ms: number;
}

let ids = 0;

export async function ask(rank: RankProcess | undefined, what: string, args: object = {}): Promise<Answer> {
  const id = ++ids;
  rank?.send({ id, do: what, ...args });
  return (await rank?.next('done', 60_000, (e) => e['id'] === id)) as unknown as Answer;
}

export function askAll(ranks: readonly RankProcess[], what: string, args: object = {}): Promise<Answer[]> {
  return Promise.all(ranks.map((rank) => ask(rank, what, args)));
}

/** The values, where no rank had an error. */
export async function valuesOf(answers: Promise<Answer[]>): Promise<unknown[]> {
  return (await answers).map((answer) => {
    expect(answer.error).toBeUndefined();
    return answer.value;
  });
}

/** `count` processes that are ready for commands; leaks and broken rules of the libraries fail at their exit. */
export async function gpuProcesses(
  libraries: Libraries,
  count: number,
  env: (rank: number) => NodeJS.ProcessEnv = () => ({}),
): Promise<RankProcess[]> {
  const ranks = startRanks('device/rank.mjs', count, (rank) => ({
    env: {
      ...(typeof libraries === 'string' ? standinEnv(libraries) : libraries(rank)),
      NC_STANDIN_STRICT_EXIT: '1',
      ...env(rank),
    },
  }));
  await all(ranks, 'ready');
  return ranks;
}

/** Resolves once the rank's latest operation is under way. */
export async function untilRunning(rank: RankProcess | undefined): Promise<void> {
  const text = `while (group().operations().at(-1)?.state !== 'running') await new Promise(setImmediate);`;
  expect((await ask(rank, 'run', { text })).error).toBeUndefined();
}

/** Resolves once the process has a thread of that name: native code has come so far. */
export async function untilThread(pid: number, name: string): Promise<void> {
  const until = performance.now() + 20_000;
  for (;;) {
    const names = readdirSync(`/proc/${pid}/task`).map((task) => {
      try {
        return readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').trim();
      } catch {
        return ''; // it has just ended
      }
    });
    if (names.includes(name)) return;
    if (performance.now() > until) throw new Error(`pid ${pid} has no thread ${name}: ${names}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Has all processes form a group, each on the device of its number. */
export async function formAll(
  ranks: readonly RankProcess[],
  more: object | ((rank: number) => object) = {},
  name = 'g',
): Promise<Answer[]> {
  return Promise.all(await formEach(ranks, more, name));
}

/** The same; what each of them answers. */
export async function formEach(
  ranks: readonly RankProcess[],
  more: object | ((rank: number) => object) = {},
  name = 'g',
): Promise<Promise<Answer>[]> {
  const masterPort = await freePort();
  return ranks.map((process, rank) =>
    ask(process, 'create', {
      name,
      options: {
        masterAddr: '127.0.0.1',
        masterPort,
        rank,
        worldSize: ranks.length,
        groupName: name,
        backend: 'nccl',
        device: rank,
        initTimeoutMs: 20_000,
        ...(typeof more === 'function' ? more(rank) : more),
      },
    }),
  );
}

/** Processes in a group that stands. */
export async function gpuGroup(
  libraries: Libraries,
  count: number,
  env?: (rank: number) => NodeJS.ProcessEnv,
  more?: object,
): Promise<RankProcess[]> {
  const ranks = await gpuProcesses(libraries, count, env);
  await valuesOf(formAll(ranks, more));
  return ranks;
}

/** Every type that a device group knows. */
export const dtypes = [
  'int8',
  'uint8',
  'int16',
  'uint16',
  'int32',
  'uint32',
  'int64',
  'uint64',
  'float16',
  'bfloat16',
  'float32',
  'float64',
  'float8e4m3',
  'float8e5m2',
] as const;

/** Ends processes whose group has failed; what of it the library still holds is the library's. */
export async function leave(ranks: readonly RankProcess[]): Promise<void> {
  for (const rank of ranks) rank.child.stdin?.end();
  for (const rank of ranks) expect((await rank.exited).signal, rank.output).toBeNull();
}

/** Closes the groups of all and ends the processes, which must have left nothing in the libraries. */
export async function endAll(ranks: readonly RankProcess[], names: readonly string[] = ['g']): Promise<void> {
  for (const name of names) await valuesOf(askAll(ranks, 'close', { name }));
  for (const rank of ranks) rank.child.stdin?.end();
  for (const rank of ranks) {
    const end = await rank.exited;
    expect(end, rank.output).toEqual({ code: 0, signal: null });
  }
}
