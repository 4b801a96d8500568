/** The data-parallel group of an engine, and the votes by which its ranks stay in step. */
import { AddressInUseError, NetworkError } from '../errors.ts';
import { optionNames } from '../option-names.ts';
import { checkInteger, checkOptions, refuse } from './arrays.ts';
import type { OperationOptions } from './collectives.ts';
import { reportFallback } from './fallback.ts';
import type { ProcessGroupOptions } from './options.ts';
import { ProcessGroup } from './process-group.ts';

/** A platform's backend for collectives, and the one a group of this process uses. */
export interface BackendChoice {
  /** As vLLM would have it. */
  platformBackend: 'nccl' | 'gloo' | 'xccl';
  /** What the group is to use. */
  backend: 'gloo' | 'nccl';
  /** Why, for `group.info()`. */
  reason: string;
  /** It is not what the platform has; reported where a group is formed. */
  fellBack?: boolean;
}

/** Which way a group's votes go, and why. */
export interface VotesChoice {
  path: 'cpu' | 'device';
  reason: string;
}

/** What the retry policy needs of a parallel configuration. */
export interface DpInitPorts {
  /** The next port, which is used up by asking. */
  getNextDpInitPort(): number;
}

/** What group set-up needs of a parallel configuration. */
export interface DpGroupConfig extends DpInitPorts {
  /** Rank 0's address. */
  readonly dataParallelMasterIp: string;
  /** This process's rank in the group, from 0. */
  readonly dataParallelRank: number;
  /** How many ranks the group has. */
  readonly dataParallelSize: number;
  /** The `count` ports that would come next, without using them up. */
  peekDpInitPorts(count: number): number[];
  /** Named values that have to be the same on all ranks. */
  dpSettings?(): Record<string, string>;
  /** The backend; Gloo otherwise. */
  dpBackend?(): BackendChoice;
  /** Which way votes go in a group of that backend; over the devices, where there are any, otherwise. */
  dpVotes?(backend: 'gloo' | 'nccl'): VotesChoice;
  /** Whether this process keeps the port bound for this group. */
  holdsPort?(port: number): boolean;
  /**
   * Gives up a port that is held, right before it is listened on; its listening descriptor where there is
   * one.
   */
  handOver?(port: number): number | undefined;
}

/**
 * What statelessInitDpGroup() takes beside the configuration; see ProcessGroupOptions. `groupName` is `dp` by
 * default.
 */
export interface StatelessInitOptions
  extends Pick<
    ProcessGroupOptions,
    | 'timeoutMs'
    | 'initTimeoutMs'
    | 'heartbeatMs'
    | 'deadAfterMs'
    | 'groupName'
    | 'jobId'
    | 'listenFd'
    | 'store'
    | 'settings'
    | 'signal'
    | 'backend'
    | 'secret'
    | 'allowUnauthenticated'
    | 'device'
    | 'ncclPath'
    | 'votes'
  > {
  /** Takes the warning that a port was taken; `process.emitWarning` otherwise. */
  onWarning?: (text: string) => void;
}

const names = optionNames<StatelessInitOptions>({
  timeoutMs: true,
  initTimeoutMs: true,
  heartbeatMs: true,
  deadAfterMs: true,
  groupName: true,
  jobId: true,
  listenFd: true,
  store: true,
  settings: true,
  signal: true,
  backend: true,
  secret: true,
  allowUnauthenticated: true,
  device: true,
  ncclPath: true,
  votes: true,
  onWarning: true,
});

/** How many ports set-up tries, and the words it says for each that is taken: both as in vLLM. */
export const maxInitAttempts = 5;
export const addressInUseWarning = 'Address already in use. Retrying with a new port.';

/** The retry policy of group set-up, the same whoever makes the attempts. */
class InitAttempts {
  readonly #ports: DpInitPorts;
  readonly #warn: (text: string) => void;
  made = 0;

  constructor(ports: DpInitPorts, onWarning: (text: string) => void) {
    this.#ports = ports;
    this.#warn = onWarning;
  }

  /** An attempt begins: it uses its port up, also if it fails. */
  begin(): number {
    this.made += 1;
    return this.#ports.getNextDpInitPort();
  }

  /** An attempt failed. Only a port that is taken is worth another one, 5 in all. */
  retries(error: unknown): boolean {
    const taken =
      error instanceof AddressInUseError ||
      (error instanceof NetworkError && error.message.includes(AddressInUseError.code));
    if (taken) this.#warn(addressInUseWarning);
    return taken && this.made < maxInitAttempts;
  }
}

/**
 * Makes attempts, each on the next port, until one succeeds or fails for another reason than a taken port.
 */
export async function attemptOnNextPorts<T>(
  ports: DpInitPorts,
  attempt: (port: number) => Promise<T>,
  onWarning: (text: string) => void = warn,
): Promise<T> {
  const attempts = new InitAttempts(ports, onWarning);
  for (;;) {
    const port = attempts.begin();
    try {
      return await attempt(port);
    } catch (error) {
      if (!attempts.retries(error)) throw error;
    }
  }
}

/**
 * Forms the data-parallel group of `config`: up to 5 candidate ports, each the configuration's next. Every
 * rank tries the same candidates and they end on the same one; afterwards the configurations of all ranks
 * have used up the same ports.
 *
 * @throws AddressInUseError (`EADDRINUSE`) on rank 0 when all are taken; otherwise as ProcessGroup.create().
 */
export async function statelessInitDpGroup(
  config: DpGroupConfig,
  options: StatelessInitOptions = {},
): Promise<ProcessGroup> {
  checkOptions('statelessInitDpGroup', options, names);
  if (typeof config?.peekDpInitPorts !== 'function' || typeof config.getNextDpInitPort !== 'function') {
    throw refuse('statelessInitDpGroup', 'config', 'a parallel configuration', config);
  }
  const { onWarning = warn, groupName = 'dp', ...given } = options;
  if (typeof onWarning !== 'function') {
    throw refuse('statelessInitDpGroup', 'onWarning', 'a function', onWarning);
  }
  if (options.settings !== undefined && (typeof options.settings !== 'object' || options.settings === null)) {
    throw refuse('statelessInitDpGroup', 'settings', 'an object of strings', options.settings);
  }
  const choice = options.backend === undefined ? config.dpBackend?.() : undefined;
  const settings = { ...config.dpSettings?.(), ...options.settings };
  const backend = choice?.backend ?? options.backend ?? 'gloo';
  if (choice?.fellBack === true) reportFallback(config, groupName, choice);
  // A program for GPUs forms the same group where there are none.
  const rest = choice?.backend === 'gloo' ? withoutDevice(given) : given;
  const votes = rest.votes === undefined ? config.dpVotes?.(backend) : undefined;
  const base: Omit<ProcessGroupOptions, 'masterPort'> = {
    ...rest,
    ...(choice === undefined ? {} : { backend, backendReason: choice.reason }),
    ...(votes === undefined ? {} : { votes: votes.path, votesReason: votes.reason }),
    settings,
    groupName,
    masterAddr: config.dataParallelMasterIp,
    rank: config.dataParallelRank,
    worldSize: config.dataParallelSize,
  };
  const next = config.peekDpInitPorts(maxInitAttempts);
  const [first] = next;
  const alone = config.dataParallelSize === 1 && first === 0;
  const holds = first !== undefined && config.holdsPort?.(first) === true;
  const chosen = options.listenFd !== undefined || options.store !== undefined;
  if (config.dataParallelRank === 0 && !chosen && (alone || holds)) {
    return attemptOnNextPorts(
      config,
      (port) => {
        const listenFd = config.handOver?.(port);
        return ProcessGroup.create({
          ...base,
          masterPort: port,
          ...(listenFd === undefined ? {} : { listenFd }),
        });
      },
      onWarning,
    );
  }
  const usable = next.filter((port) => port >= 0 && port <= 65_535);
  return joinOnAny(config, { ...base, masterPort: usable.length > 0 ? usable : next }, onWarning);
}

type Given = Omit<StatelessInitOptions, 'onWarning' | 'groupName'>;

/** The options, where the configuration has chosen CPUs; what they ask of devices is checked by create() alone. */
function withoutDevice({
  device: _device,
  ncclPath: _ncclPath,
  ...rest
}: Given): Given & Pick<ProcessGroupOptions, 'votesReason'> {
  if (rest.votes !== 'device') return rest;
  return { ...rest, votes: 'cpu', votesReason: "'device' was asked for, but the group has no device" };
}

/**
 * The attempts are made by the native side, which walks the candidates by itself and tells of those that are
 * taken.
 */
async function joinOnAny(
  config: DpGroupConfig,
  options: ProcessGroupOptions,
  onWarning: (text: string) => void,
): Promise<ProcessGroup> {
  const attempts = new InitAttempts(config, onWarning);
  try {
    const group = await ProcessGroup.create(options, (address) => {
      attempts.begin();
      attempts.retries(new AddressInUseError(address));
    });
    // Ranks other than 0 are told of no failures, only where the group formed.
    const { portIndex } = group.info();
    while (attempts.made <= portIndex) attempts.begin();
    return group;
  } catch (error) {
    if (config.dataParallelRank === 0 && !(error instanceof AddressInUseError)) attempts.begin();
    throw error;
  }
}

function warn(text: string): void {
  process.emitWarning(text, { type: 'NodeCollectivesWarning', code: 'EADDRINUSE' });
}

const int64Max = 2n ** 63n - 1n;
const int64Min = -(2n ** 63n);

function checkGroup(op: string, group: unknown): asserts group is ProcessGroup {
  if (!(group instanceof ProcessGroup)) throw refuse(op, 'group', 'a ProcessGroup', group);
}

function flag(op: string, name: string, value: unknown): number {
  if (typeof value !== 'boolean') throw refuse(op, name, 'a boolean', value);
  return value ? 1 : 0;
}

/**
 * Whether any rank has unfinished work. Every rank must call it.
 *
 * @param hasUnfinished whether this rank has.
 */
export async function hasUnfinishedDp(
  group: ProcessGroup,
  hasUnfinished: boolean,
  options?: OperationOptions,
): Promise<boolean> {
  checkGroup('hasUnfinishedDp', group);
  const mine = flag('hasUnfinishedDp', 'hasUnfinished', hasUnfinished);
  const [any] = await group.vote('max', [mine], options);
  return any === 1;
}

/** hasUnfinishedDp(), blocking this thread; for engines in a worker thread of their own. */
export function hasUnfinishedDpSync(
  group: ProcessGroup,
  hasUnfinished: boolean,
  options?: OperationOptions,
): boolean {
  checkGroup('hasUnfinishedDpSync', group);
  const mine = flag('hasUnfinishedDpSync', 'hasUnfinished', hasUnfinished);
  return group.voteSync('max', [mine], options)[0] === 1;
}

function kvBytes(op: string, bytes: unknown): bigint {
  if (typeof bytes === 'number')
    checkInteger(op, 'bytes', bytes, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  else if (typeof bytes !== 'bigint') throw refuse(op, 'bytes', 'a bigint or a whole number', bytes);
  const value = BigInt(bytes as number | bigint);
  if (value < int64Min || value > int64Max) throw refuse(op, 'bytes', 'within 64 signed bits', value);
  return value === -1n ? int64Max : value;
}

/**
 * The smallest KV-cache memory that any rank offers. Every rank must call it.
 *
 * @param bytes what this rank offers, in bytes; -1 means no limit.
 * @returns bytes; 2^63 - 1 if no rank has a limit.
 */
export async function syncKvCacheMemorySize(
  group: ProcessGroup,
  bytes: bigint | number,
  options?: OperationOptions,
): Promise<bigint> {
  checkGroup('syncKvCacheMemorySize', group);
  const [least] = await group.vote('min', [kvBytes('syncKvCacheMemorySize', bytes)], options);
  return least as bigint;
}

/** syncKvCacheMemorySize(), blocking this thread. */
export function syncKvCacheMemorySizeSync(
  group: ProcessGroup,
  bytes: bigint | number,
  options?: OperationOptions,
): bigint {
  checkGroup('syncKvCacheMemorySizeSync', group);
  return group.voteSync('min', [kvBytes('syncKvCacheMemorySizeSync', bytes)], options)[0] as bigint;
}

/** What a rank brings to syncDpState(). */
export interface DpState {
  /** This rank has work. */
  hasUnfinished: boolean;
  /** This rank was asked to pause and waits for the others. */
  pendingPause: boolean;
}

/** What all ranks take from syncDpState(). */
export interface DpStateResult {
  /** Some rank has work, or only some ranks wait for a pause: go on stepping. */
  hasUnfinished: boolean;
  /** All ranks wait for a pause: pause now. */
  pauseConsensus: boolean;
}

function stateValues(op: string, state: DpState): number[] {
  if (typeof state !== 'object' || state === null) throw refuse(op, 'state', 'an object', state);
  return [flag(op, 'hasUnfinished', state.hasUnfinished), flag(op, 'pendingPause', state.pendingPause)];
}

function stateResult([unfinished, pausing]: number[], size: number): DpStateResult {
  const pauseConsensus = pausing === size;
  return {
    hasUnfinished: (unfinished as number) > 0 || ((pausing as number) > 0 && !pauseConsensus),
    pauseConsensus,
  };
}

/** hasUnfinishedDp() and the agreement on a pause in one exchange. Every rank must call it. */
export async function syncDpState(
  group: ProcessGroup,
  state: DpState,
  options?: OperationOptions,
): Promise<DpStateResult> {
  checkGroup('syncDpState', group);
  return stateResult(await group.vote('sum', stateValues('syncDpState', state), options), group.size);
}

/** syncDpState(), blocking this thread. */
export function syncDpStateSync(
  group: ProcessGroup,
  state: DpState,
  options?: OperationOptions,
): DpStateResult {
  checkGroup('syncDpStateSync', group);
  return stateResult(group.voteSync('sum', stateValues('syncDpStateSync', state), options), group.size);
}
