/** Options of the example; `main` and the engines read the same command line. */

import { parseArgs } from 'node:util';

export interface Options {
  /** Undefined: the trace that comes with the example. */
  readonly trace: string | undefined;
  readonly nproc: number;
  readonly limit: number;
  readonly speed: number;
  readonly work: number;
  readonly stepMs: number;
  readonly maxBatch: number;
  readonly tokensPerStep: number;
  readonly kvBytesPerToken: number;
  readonly voteEvery: number;
  readonly progressMs: number;
}

export const help = `Usage: npm start -- [options]
       node build/ts/examples/01-dp-engine/main.js [options]

Data-parallel engine processes replay a request trace in lockstep waves.

Options:
      --trace FILE             CSV: arrival time, prompt tokens, generated tokens (default: trace.csv here)
  -n, --nproc N                engine processes (4)
      --limit K                only the first K requests
      --speed S                simulated time passes S times as fast (1): more requests at a time
      --work W                 computation per token, times W (1); 0 is none
      --step-ms MS             simulated time of a step (20)
      --max-batch N            requests in a batch (32)
      --tokens-per-step N      tokens in a step (2048)
      --kv-bytes-per-token N   bytes of KV cache for a token (65536)
      --vote-every N           steps between two votes (32)
      --progress-ms MS         time between two progress lines of an engine (2000; 100 on a terminal)
  -h, --help                   this text
`;

/** @throws Error with a text for the user. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      trace: text,
      nproc: { type: 'string', short: 'n' },
      limit: text,
      speed: text,
      work: text,
      'step-ms': text,
      'max-batch': text,
      'tokens-per-step': text,
      'kv-bytes-per-token': text,
      'vote-every': text,
      'progress-ms': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return 'help';

  type Name = Exclude<keyof typeof values, 'trace' | 'help'>;
  const number = (name: Name, standard: number, low: number, whole: boolean): number => {
    const given = values[name];
    if (given === undefined) return standard;
    const value = /^\d+(\.\d+)?$/.test(given) ? Number(given) : Number.NaN;
    if (!(value >= low) || (whole && !Number.isSafeInteger(value))) {
      throw new Error(`--${name} must be a ${whole ? 'whole ' : ''}number from ${low} up, it is '${given}'`);
    }
    return value;
  };
  const options = {
    trace: values.trace,
    nproc: number('nproc', 4, 1, true),
    limit: number('limit', Number.POSITIVE_INFINITY, 1, true),
    speed: number('speed', 1, 0.001, false),
    work: number('work', 1, 0, false),
    stepMs: number('step-ms', 20, 0.001, false),
    maxBatch: number('max-batch', 32, 1, true),
    tokensPerStep: number('tokens-per-step', 2048, 1, true),
    kvBytesPerToken: number('kv-bytes-per-token', 65_536, 1, true),
    voteEvery: number('vote-every', 32, 1, true),
    progressMs: number('progress-ms', 2000, 0, true),
  };
  if (options.tokensPerStep < options.maxBatch) {
    throw new Error(
      '--tokens-per-step must be at least --max-batch: each running request gets a token a step',
    );
  }
  return options;
}
