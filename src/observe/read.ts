/** Dumps back from files: those that are whole and ours, and why the others are not. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Dump, dumpFormat, dumpVersion } from './dump.ts';

const whole = z.number().int().nonnegative();
const operation = z.looseObject({
  seq: whole,
  op: z.string(),
  dtype: z.string(),
  reduceOp: z.string().optional(),
  root: z.number().int().optional(),
  count: whole,
  state: z.enum(['queued', 'running', 'done', 'failed']),
  calledAt: z.number(),
  begunAt: z.number().optional(),
  endedAt: z.number().optional(),
  waitedMs: z.number().optional(),
  error: z.string().optional(),
  missing: z.array(whole).optional(),
});
const failure = z.looseObject({
  code: z.string(),
  message: z.string(),
  rank: whole.optional(),
  peer: whole.optional(),
  peerHost: z.string().optional(),
  peerPid: whole.optional(),
  detectedBy: whole.optional(),
  op: z.string().optional(),
  seq: whole.optional(),
  consequence: z.boolean().optional(),
  missing: z.array(whole).optional(),
});
/** What inspecting relies on; the rest of a dump passes through. */
const dump = z.looseObject({
  format: z.literal(dumpFormat),
  version: z.literal(dumpVersion),
  writtenAt: z.number(),
  reason: z.enum(['failure', 'request']),
  group: z
    .looseObject({
      groupName: z.string(),
      jobId: z.string(),
      generation: whole,
      instance: z.string().optional(),
      rank: whole,
      size: z.number().int().min(1).max(65_536),
      state: z.string(),
      library: z.looseObject({ name: z.string(), version: z.string(), path: z.string() }).optional(),
      device: z
        .looseObject({ index: whole, name: z.string(), uuid: z.string(), platform: z.string() })
        .optional(),
      members: z.array(z.looseObject({ rank: whole, host: z.string(), pid: whole })).optional(),
    })
    .refine(({ rank, size }) => rank < size, 'the rank is not below the size'),
  failure: failure.nullable(),
  operations: z.array(operation),
  stats: z.looseObject({ formedAt: z.number().optional(), failedAt: z.number().optional() }),
  process: z.looseObject({ pid: whole, host: z.string() }),
});

/** A file that says nothing, and why. */
export interface Unusable {
  file: string;
  /** `truncated`: it is ours, but cut short. `foreign`: it is something else. */
  kind: 'unreadable' | 'truncated' | 'foreign' | 'version' | 'damaged';
  why: string;
  /** It was named itself, and not found in a folder. */
  named: boolean;
}

export interface Found {
  dumps: { file: string; dump: Dump }[];
  unusable: Unusable[];
}

/** Reads files, and what ends in `.json` in folders (not in folders below them). */
export function readDumps(paths: readonly string[]): Found {
  const found: Found = { dumps: [], unusable: [] };
  for (const path of paths) {
    try {
      if (!statSync(path).isDirectory()) {
        readOne(path, true, found);
        continue;
      }
      const names = readdirSync(path).filter((name) => name.endsWith('.json'));
      for (const name of names.sort()) readOne(join(path, name), false, found);
    } catch (error) {
      found.unusable.push({ file: path, kind: 'unreadable', why: (error as Error).message, named: true });
    }
  }
  return found;
}

function readOne(file: string, named: boolean, found: Found): void {
  const refuse = (kind: Unusable['kind'], why: string) => found.unusable.push({ file, kind, why, named });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    refuse('unreadable', (error as Error).message);
    return;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The format's name is what a dump begins with.
    if (new RegExp(`^\\s*\\{\\s*"format":\\s*"${dumpFormat}"`).test(text)) {
      refuse('truncated', 'the file is cut short: its disk may have been full, or it was copied in part');
    } else {
      refuse('foreign', 'no dump of node-collectives');
    }
    return;
  }
  const head = (value ?? {}) as { format?: unknown; version?: unknown };
  if (head.format !== dumpFormat) {
    refuse('foreign', 'no dump of node-collectives');
    return;
  }
  if (head.version !== dumpVersion) {
    refuse('version', `written in version ${head.version} of the format; this program reads ${dumpVersion}`);
    return;
  }
  const parsed = dump.safeParse(value);
  if (parsed.success) {
    found.dumps.push({ file, dump: value as Dump });
    return;
  }
  const [first] = parsed.error.issues;
  refuse('damaged', `${first?.path.join('.') ?? ''}: ${first?.message ?? 'not as it should be'}`);
}
