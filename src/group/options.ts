/** Options of a group: checked here, resolved, and put into the form the native side takes. */
import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { checkInteger, checkOptions, checkSignal, checkTimeout, orDefault, refuse } from '../arguments.ts';
import { AbortedError, InvalidArgumentError, TimeoutError } from '../errors.ts';
import type { NativeGroupOptions } from '../native/binding.ts';
import { abortable, abortReason } from '../net/abortable.ts';
import { allowedAddresses, resolveWithin } from '../net/hosts.ts';
import { listenFdFromEnvironment } from '../net/listen-fd.ts';
import { type AccessOptions, accessOf, checkExposure } from '../net/secret.ts';
import { within } from '../net/within.ts';
import { optionNames } from '../option-names.ts';
import { type Backend, backendOf } from './backend.ts';
import { type Coordination, coordinate } from './coordination.ts';
import { hush, leave } from './farewell.ts';

/** What a coordination store has to offer; `TcpStore` does. */
export interface CoordinationStore {
  /** Sets a key, made or replaced. */
  set(key: string, value: string): Promise<void>;
  /** Waits until the key is there. */
  get(key: string, options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<Uint8Array>;
  /** Adds to a counter, which begins at 0; the new sum. */
  add(key: string, amount: number): Promise<bigint | number>;
  /** Deletes a key; whether it was there. Without it the addresses of earlier formations stay. */
  deleteKey?(key: string): Promise<boolean>;
}

/** What a group is formed from; ProcessGroup.create(). */
export interface ProcessGroupOptions extends AccessOptions {
  /** Rank 0's address or host name. Rank 0 listens on exactly this address. */
  masterAddr: string;
  /** The port, or the candidates in the order in which all ranks try them. With `store` none is needed. */
  masterPort?: number | readonly number[];
  /** The candidates, where that name reads better; instead of `masterPort`. */
  masterPorts?: readonly number[];
  /** This process's number in the group, from 0. */
  rank: number;
  /** How many ranks the group has. */
  worldSize: number;
  /**
   * `gloo` (default), between CPUs, or `nccl`, between GPUs: NCCL or RCCL, found at run time. Asked for by name it
   * fails where there is no GPU or no library.
   */
  backend?: 'gloo' | 'nccl';
  /** Why this backend, where it was not the caller's choice. @internal */
  backendReason?: string;
  /** With `nccl`: the number of this rank's device among those it may use. LOCAL_RANK or 0 otherwise. */
  device?: number;
  /** With `nccl`: the library to load, instead of looking for it. */
  ncclPath?: string;
  /** With `nccl`: whether votes go over the devices (default) or over the CPUs' links. The same on all ranks. */
  votes?: 'cpu' | 'device';
  /** Why they do, where it was not the caller's choice. @internal */
  votesReason?: string;
  /** Milliseconds an operation may take. Default 300,000. */
  timeoutMs?: number;
  /** Milliseconds forming the group may take. Default 60,000. */
  initTimeoutMs?: number;
  /** Milliseconds after which a rank that has nothing to say shows that it is alive. Default 500; all ranks alike. */
  heartbeatMs?: number;
  /**
   * Milliseconds after which a rank that shows no sign of life is lost. Default 3,000; at least twice `heartbeatMs`, all
   * ranks alike.
   */
  deadAfterMs?: number;
  /** Part of the group's identity: ranks only meet within one name. Default `default`. */
  groupName?: string;
  /**
   * Part of the group's identity as well. Default 0; for a newcomer to a group that is being re-formed, the number in
   * its `info().next`.
   */
  generation?: number;
  /** Tells jobs with the same settings on one host apart. Default `NODE_COLLECTIVES_JOB_ID`, else the cluster's. */
  jobId?: string;
  /** Rank 0: a listening TCP socket to use instead of binding one. The group owns it from here on. */
  listenFd?: number;
  /**
   * A store that all ranks reach already: rank 0 then takes a free port and publishes it there. One formation of a
   * name at a time; give groups that form at the same time names of their own.
   */
  store?: CoordinationStore;
  /** Named settings that have to be the same on all ranks; a difference refuses the group, by name. */
  settings?: Record<string, string>;
  /**
   * Aborts the group, at any time from joining to the end of closing: as `group.abort()` with its reason. If it has
   * fired before the call, create() only tells the others, who may be joining.
   */
  signal?: AbortSignal;
}

/** What statelessInitDpGroup() takes part in. */
export interface FormingHooks {
  /** Rank 0 found a candidate taken, and goes on to the next. */
  onAddressInUse?: (address: string) => void;
  /**
   * Nothing is wrong with the options: from here on ports are bound and dialled. Rank 0 may say only here which port
   * that is, and give its listening descriptor.
   */
  beforeForming?: () => { port: number; listenFd: number | undefined } | undefined;
}

/** Options after checking. */
export interface Settled {
  native: NativeGroupOptions;
  timeoutMs: number;
  initTimeoutMs: number;
  backend: Backend;
  signal: AbortSignal | undefined;
  publish: { store: CoordinationStore; key: string; address: string } | undefined;
  coordination: Coordination | undefined;
  onAddressInUse: ((address: string) => void) | undefined;
}

export const defaultTimeoutMs = 300_000;
export const defaultInitTimeoutMs = 60_000;
export const defaultHeartbeatMs = 500;
export const defaultDeadAfterMs = 3_000;

/** The job's id as the launcher or a cluster gives it; empty where there is none. */
export function jobIdFromEnvironment(env: NodeJS.ProcessEnv = process.env): string {
  return env['NODE_COLLECTIVES_JOB_ID'] ?? env['TORCHELASTIC_RUN_ID'] ?? env['SLURM_JOB_ID'] ?? '';
}

/** The reasons are this package's own. */
const names = optionNames<ProcessGroupOptions>({
  masterAddr: true,
  masterPort: true,
  masterPorts: true,
  rank: true,
  worldSize: true,
  backend: true,
  backendReason: false,
  device: true,
  ncclPath: true,
  votes: true,
  votesReason: false,
  timeoutMs: true,
  initTimeoutMs: true,
  heartbeatMs: true,
  deadAfterMs: true,
  groupName: true,
  generation: true,
  jobId: true,
  listenFd: true,
  store: true,
  settings: true,
  signal: true,
  secret: true,
  allowUnauthenticated: true,
});

function checkText(name: string, value: unknown): string {
  if (typeof value !== 'string') throw refuse('create', name, 'a text', value);
  return value;
}

export function checkAddress(op: string, name: string, value: unknown): string {
  const form = 'an address or host name, without scheme, brackets or port';
  if (typeof value !== 'string' || value === '' || value.includes('\0')) throw refuse(op, name, form, value);
  if (isIP(value) === 0 && /[:/[\]\s]/.test(value)) throw refuse(op, name, form, value);
  return value;
}

function portsOf(options: ProcessGroupOptions): number[] {
  const { rank } = options;
  if (options.masterPort !== undefined && options.masterPorts !== undefined) {
    throw refuse('create', 'masterPorts', 'left out where masterPort is given', options.masterPorts);
  }
  // Without a port, rank 0 chooses one and publishes it in the store.
  const named = options.masterPort === undefined ? options.masterPorts : options.masterPort;
  const masterPort = orDefault(named, options.store === undefined ? undefined : 0);
  const name = options.masterPorts === undefined ? 'masterPort' : 'masterPorts';
  const ports: readonly unknown[] = Array.isArray(masterPort) ? masterPort : [masterPort];
  if (ports.length === 0) throw refuse('create', name, 'a port or at least one candidate', masterPort);
  for (const port of ports) checkInteger('create', name, port, 0, 65535);
  const chosen =
    options.store !== undefined || (rank === 0 && (options.listenFd !== undefined || ports.length === 1));
  if (ports.includes(0) && !chosen) {
    throw new InvalidArgumentError(
      'create: masterPort 0 lets rank 0 choose, and the others cannot know its choice; give a port ' +
        '(VLLM_DP_MASTER_PORT, where the environment decides), or a `store` that all reach',
      { op: 'create' },
    );
  }
  return ports as number[];
}

const longestHeartbeatMs = 3_600_000;

function checkHeartbeat(options: ProcessGroupOptions): { heartbeatMs: number; deadAfterMs: number } {
  const { heartbeatMs = defaultHeartbeatMs } = options;
  checkInteger('create', 'heartbeatMs', heartbeatMs, 1, longestHeartbeatMs);
  const { deadAfterMs = Math.max(defaultDeadAfterMs, 2 * heartbeatMs) } = options;
  checkInteger('create', 'deadAfterMs', deadAfterMs, 2 * heartbeatMs, 24 * longestHeartbeatMs);
  return { heartbeatMs, deadAfterMs };
}

/** Checks and resolves; nothing has been opened yet, but for reading the coordination store. */
export async function prepare(
  options: ProcessGroupOptions,
  onAddressInUse?: (address: string) => void,
): Promise<Settled> {
  checkOptions('create', options, names);
  const { timeoutMs = defaultTimeoutMs, initTimeoutMs = defaultInitTimeoutMs, signal } = options;
  const masterAddr = checkAddress('create', 'masterAddr', options.masterAddr);
  const size = checkInteger('create', 'worldSize', options.worldSize, 1, 65_536);
  const rank = checkInteger('create', 'rank', options.rank, 0, size - 1);
  const ports = portsOf(options);
  checkTimeout('create', 'timeoutMs', timeoutMs);
  checkTimeout('create', 'initTimeoutMs', initTimeoutMs);
  const { heartbeatMs, deadAfterMs } = checkHeartbeat(options);
  const backend = backendOf(options);
  const groupName = checkText('groupName', orDefault(options.groupName, 'default'));
  const jobId = checkText('jobId', orDefault(options.jobId, jobIdFromEnvironment()));
  if (options.settings !== undefined && (typeof options.settings !== 'object' || options.settings === null))
    throw refuse('create', 'settings', 'an object of names and texts', options.settings);
  const settings = Object.entries(options.settings ?? {}).flatMap(([name, value]) => {
    if (name === '' || name.includes('=') || name.includes('\n'))
      throw refuse('create', 'a name in settings', "some text without '=' and line breaks", name);
    return [name, checkText(`settings.${name}`, value)];
  });
  // A rank that is slower to show signs of life than another expects would be taken for dead.
  settings.push('heartbeatMs', `${heartbeatMs}`, 'deadAfterMs', `${deadAfterMs}`);
  const listenFd =
    options.listenFd === undefined
      ? -1
      : checkInteger('create', 'listenFd', options.listenFd, 0, 2 ** 31 - 1);
  if (listenFd >= 0 && rank !== 0) throw refuse('create', 'listenFd', 'given on rank 0 only', listenFd);
  if (rank === 0 && listenFd < 0 && options.store === undefined && ports.length === 1) {
    checkLauncherPort(masterAddr, ports[0]);
  }
  checkSignal('create', signal);
  if (options.store !== undefined && !isStore(options.store)) {
    throw refuse('create', 'store', 'a TcpStore, or an object with set, get and add', options.store);
  }
  const access = accessOf('create', options);

  const began = performance.now();
  const settled: Settled = {
    native: {
      hosts: [],
      ports,
      listenFd,
      rank,
      size,
      groupName,
      jobId,
      generation: checkInteger('create', 'generation', orDefault(options.generation, 0), 0, 2 ** 32 - 1),
      memberId: randomBytes(8).toString('hex'),
      lineage: '',
      ranks: [],
      lost: [],
      alsoAt: [],
      allowedAddresses: allowedAddresses(),
      ...access,
      settings: [...settings, ...backend.settings],
      leaving: null,
      device: backend.device,
      initTimeoutMs: Math.ceil(initTimeoutMs),
      heartbeatMs,
      deadAfterMs,
    },
    timeoutMs: Math.ceil(timeoutMs),
    initTimeoutMs: Math.ceil(initTimeoutMs),
    backend,
    signal,
    publish: undefined,
    coordination: undefined,
    onAddressInUse,
  };
  // At once: the others may come before this rank has found where they meet.
  hush(settled.native);
  // Goes on for a moment after an abort, so that the others can be told; also where that came before the call.
  const stop = new AbortController();
  const located = locate(settled, options.store, masterAddr, began + initTimeoutMs, stop.signal);
  try {
    await abortable('join', signal, () => located);
  } catch (error) {
    if (!signal?.aborted) throw error;
    leave(settled, located, stop, abortReason(signal));
    throw abortedBy(signal, rank);
  }
  checkExposure('create', settled.native.hosts, access);
  settled.native.initTimeoutMs = Math.max(1, Math.ceil(initTimeoutMs - (performance.now() - began)));
  return settled;
}

/** The same, on a port that was taken since. */
export function listeningAt(
  settled: Settled,
  { port, listenFd = -1 }: { port: number; listenFd: number | undefined },
): Settled {
  return { ...settled, native: { ...settled.native, ports: [port], listenFd } };
}

/** Under `node-collectives launch` rank 0 has the port already; without it every bind would say "in use". */
function checkLauncherPort(address: string, port: number | undefined, env = process.env): void {
  if (env['MASTER_ADDR'] !== address || Number(env['MASTER_PORT']) !== port || !launcherListens(env)) return;
  throw new InvalidArgumentError(
    `create: the launcher holds port ${port} open for this rank; pass it on with ` +
      '`listenFd: listenFdFromEnvironment()`, or launch with --no-listen-fd',
    { op: 'create', address: `${address}:${port}` },
  );
}

function launcherListens(env: NodeJS.ProcessEnv): boolean {
  try {
    return listenFdFromEnvironment(env) !== undefined;
  } catch {
    return false; // the variable is an outer process's
  }
}

function isStore(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return ['set', 'get', 'add'].every(
    (name) => typeof (value as Record<string, unknown>)[name] === 'function',
  );
}

function abortedBy(signal: AbortSignal, rank: number): AbortedError {
  return new AbortedError(`aborted by rank ${rank}: ${abortReason(signal)}`, {
    rank,
    peer: rank,
    detectedBy: rank,
    op: 'join',
  });
}

/** Where rank 0's store is, or is to be. */
async function locate(
  settled: Settled,
  store: CoordinationStore | undefined,
  masterAddr: string,
  end: number,
  signal: AbortSignal,
): Promise<void> {
  const { native, initTimeoutMs } = settled;
  const { rank, groupName } = native;
  let host = masterAddr;
  if (store !== undefined) {
    const late = `join: the coordination store gave no address of group '${groupName}' within ${initTimeoutMs} ms`;
    // The others wait for rank 0's word; rank 0 for the store alone.
    const facts = rank === 0 ? { rank, op: 'join' } : { rank, op: 'join', peer: 0, missing: [0] };
    const where = await within(
      'join',
      { timeoutMs: initTimeoutMs, signal },
      () => coordinate(store, settled, masterAddr, end, signal),
      late,
      facts,
    ).catch((cause) => {
      // The store's own limit, which ends at the same moment, knows of keys only.
      throw cause instanceof TimeoutError && cause.op !== 'join'
        ? new TimeoutError(late, facts, { cause })
        : cause;
    });
    host = where?.host ?? masterAddr;
    native.ports = [where?.port ?? 0];
  }
  native.hosts = await resolveWithin('join', host, initTimeoutMs, signal);
}
