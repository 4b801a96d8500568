/** The ranks of one round of a benchmark, as processes; the first one says what it measured, as JSON. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { withListeningPort } from '../src/launch/listener.ts';

export interface Sample {
  p50: number;
  p99: number;
}

/** What a rank's process gets besides its place. */
export type Surroundings = (rank: number) => NodeJS.ProcessEnv;

/** A rank's place, as its process reads it. */
export const place = (rank: number, ranks: number, port: number) => ({
  RANK: String(rank),
  LOCAL_RANK: String(rank),
  WORLD_SIZE: String(ranks),
  MASTER_ADDR: '127.0.0.1',
  MASTER_PORT: String(port),
});

async function answer(children: ChildProcess[]): Promise<Sample> {
  let text = '';
  children[0]?.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'close'))[0]));
  if (codes.some((code) => code !== 0)) throw new Error(`a rank ended with ${codes.join(', ')}`);
  // Libraries may say something of their own before it.
  return JSON.parse(text.trim().split('\n').at(-1) ?? '') as Sample;
}

/** Ours: a Node process per rank. Rank 0 gets the port as a listening descriptor. */
export async function ours(
  ranks: number,
  iterations: number,
  surroundings: Surroundings = () => ({}),
): Promise<Sample> {
  const program = fileURLToPath(new URL('./rank.js', import.meta.url));
  const children = await withListeningPort('127.0.0.1', (port, fd) =>
    Array.from({ length: ranks }, (_, rank) =>
      spawn(process.execPath, [program], {
        env: {
          ...process.env,
          ...place(rank, ranks, port),
          ITERATIONS: String(iterations),
          ...surroundings(rank),
        },
        stdio: ['ignore', 'pipe', 'inherit', rank === 0 ? fd : 'ignore'],
      }),
    ),
  );
  return answer(children);
}

/** PyTorch's: a Python process per rank, over that backend. */
export async function torch(
  python: string,
  program: string,
  ranks: number,
  iterations: number,
  surroundings: Surroundings,
): Promise<Sample> {
  // Closed again: its rank 0 listens itself.
  const port = await withListeningPort('127.0.0.1', (free) => free);
  const children = Array.from({ length: ranks }, (_, rank) =>
    spawn(python, [program], {
      env: {
        ...process.env,
        ...place(rank, ranks, port),
        ITERATIONS: String(iterations),
        ...surroundings(rank),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  return answer(children);
}
