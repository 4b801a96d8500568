/**
 * The dump: all that one rank knows of a group, in a file. Written when the group fails, at once and whole, since the
 * process may end right after. docs/observability.md describes the format.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { RankCall } from '../errors.ts';
import type { GroupStats, OperationRecord } from './stats.ts';

export const dumpFormat = 'node-collectives-dump';
/** Raised when a field changes its meaning or goes; new fields do not count. */
export const dumpVersion = 1;

/** Where dumps go when a group fails: a folder, made where it is missing. Without it none are written. */
export const dumpVariable = 'NODE_COLLECTIVES_DUMP_DIR';

/** What the dump says of the group itself. */
export interface DumpedGroup {
  groupName: string;
  jobId: string;
  generation: number;
  /** The same on all ranks of one formation, and on no other's; absent where the group was never formed. */
  instance?: string;
  rank: number;
  size: number;
  backend: string;
  backendReason: string;
  state: string;
  timeoutMs: number;
  initTimeoutMs: number;
  /** Address of the group's store. */
  store?: string;
  members?: { rank: number; host: string; pid: number; link: string }[];
  formation?: object;
  /** Of a GPU group: the library that it used, and this rank's device. */
  library?: { name: string; version: string; path: string };
  device?: { index: number; name: string; uuid: string; platform: string };
}

/** The error as it is thrown: its name, code, text, and every fact. */
export interface DumpedFailure {
  name: string;
  code: string;
  message: string;
  rank?: number;
  peer?: number;
  peerHost?: string;
  peerPid?: number;
  detectedBy?: number;
  op?: string;
  seq?: number;
  errno?: string;
  address?: string;
  consequence?: boolean;
  missing?: number[];
  calls?: readonly RankCall[];
}

export interface Dump {
  format: typeof dumpFormat;
  version: number;
  /** When it was written (milliseconds since 1970) and why: the group failed, or somebody asked. */
  writtenAt: number;
  reason: 'failure' | 'request';
  group: DumpedGroup;
  /** null while the group has not failed. */
  failure: DumpedFailure | null;
  operations: OperationRecord[];
  stats: GroupStats;
  process: {
    pid: number;
    host: string;
    node: string;
    package: string;
    platform: string;
    /** When the process began, milliseconds since 1970. */
    startedAt: number;
  };
}

/** The instance as dumps name it. The token itself lets a process in, and goes into no file. */
export function instanceOf(token: string): string {
  return createHash('sha256').update(`node-collectives instance ${token}`).digest('hex').slice(0, 12);
}

export function makeDump(
  reason: Dump['reason'],
  group: DumpedGroup,
  failure: (Error & { code: string }) | undefined,
  operations: OperationRecord[],
  stats: GroupStats,
): Dump {
  return {
    format: dumpFormat,
    version: dumpVersion,
    writtenAt: Date.now(),
    reason,
    group,
    failure:
      failure === undefined
        ? null
        : { ...failure, name: failure.name, code: failure.code, message: failure.message },
    operations,
    stats,
    process: {
      pid: process.pid,
      host: hostname(),
      node: process.version,
      package: packageVersion(),
      platform: `${process.platform}-${process.arch}`,
      startedAt: Math.round(performance.timeOrigin),
    },
  };
}

function packageVersion(): string {
  try {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    return (JSON.parse(text) as { version: string }).version;
  } catch {
    return 'unknown';
  }
}

/** `nc-dp-g0-r2-p4711-3f2a….json`: group, generation, rank, process, formation. */
export function dumpName({ group, process: { pid } }: Dump): string {
  const name = group.groupName.replaceAll(/[^A-Za-z0-9_.-]/g, '_').slice(0, 60);
  const formation = group.instance ?? `forming-${randomBytes(4).toString('hex')}`;
  return `nc-${name}-g${group.generation}-r${group.rank}-p${pid}-${formation}.json`;
}

/**
 * Writes the dump, readable by its owner only. It has the name only once it is whole.
 *
 * @param path a file, or a folder that is there.
 * @returns the file.
 */
export function writeDump(dump: Dump, path: string): string {
  const file = isFolder(path) ? join(path, dumpName(dump)) : path;
  const unfinished = `${file}.${process.pid}-${randomBytes(3).toString('hex')}.tmp`;
  try {
    writeFileSync(unfinished, `${JSON.stringify(dump, undefined, 1)}\n`, { mode: 0o600, flag: 'wx' });
    renameSync(unfinished, file);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
  return file;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/**
 * Where the environment asks for it, writes what `make` gives. A failure that cannot be written down is none of the
 * caller's: it is warned of, and never thrown.
 */
export function dumpWhereAsked(make: () => Dump, env: NodeJS.ProcessEnv = process.env): string | undefined {
  const folder = env[dumpVariable];
  if (folder === undefined || folder === '') return undefined;
  try {
    mkdirSync(folder, { recursive: true });
    return writeDump(make(), folder);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    process.emitWarning(`the dump of a failed group could not be written to ${dumpVariable}: ${text}`, {
      type: 'NodeCollectivesWarning',
      code: 'NODE_COLLECTIVES_DUMP',
    });
    return undefined;
  }
}
