/** The data-parallel group of an engine: how it is formed from a configuration. */

import { checkInteger, checkOptions, refuse } from '../arguments.ts';
import { AddressInUseError, InvalidArgumentError, NetworkError } from '../errors.ts';
import { optionNames } from '../option-names.ts';
import { checkDevice } from './backend.ts';
import { reportFallback } from './fallback.ts';
import { checkAddress, type ProcessGroupOptions } from './options.ts';
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

const op = 'statelessInitDpGroup';
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

  /** An attempt takes its port, which is used up also if it fails. */
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
 *
 * @param attempt takes its port itself, once nothing else is wrong.
 */
export async function attemptOnNextPorts<T>(
  ports: DpInitPorts,
  attempt: (takePort: () => number) => Promise<T>,
  onWarning: (text: string) => void = warn,
): Promise<T> {
  const attempts = new InitAttempts(ports, onWarning);
  for (;;) {
    try {
      return await attempt(() => attempts.begin());
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
  checkOptions(op, options, names);
  checkConfig(config);
  const { onWarning = warn, groupName = 'dp', ...given } = options;
  if (typeof onWarning !== 'function') throw refuse(op, 'onWarning', 'a function', onWarning);
  if (typeof groupName !== 'string') throw refuse(op, 'groupName', 'a text', groupName);
  if (options.settings !== undefined && (typeof options.settings !== 'object' || options.settings === null)) {
    throw refuse(op, 'settings', 'an object of strings', options.settings);
  }
  checkDevice(op, options);
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
  if (!Array.isArray(next))
    throw refuse(op, "what config's peekDpInitPorts() gives", 'an array of ports', next);
  const [first] = next;
  const alone = config.dataParallelSize === 1 && first === 0;
  const holds = first !== undefined && config.holdsPort?.(first) === true;
  const chosen = options.listenFd !== undefined || options.store !== undefined;
  if (config.dataParallelRank === 0 && !chosen && (alone || holds)) {
    return attemptOnNextPorts(
      config,
      (takePort) =>
        // Which port is known only once it is taken: until then, it is one that rank 0 may choose.
        ProcessGroup.create(
          { ...base, masterPort: 0 },
          {
            beforeForming: () => {
              const port = takePort();
              return { port, listenFd: config.handOver?.(port) };
            },
          },
        ),
      onWarning,
    );
  }
  const usable = next.filter((port) => port >= 0 && port <= 65_535);
  return joinOnAny(config, { ...base, masterPort: usable.length > 0 ? usable : next }, onWarning);
}

/** By the names of the configuration, which create() does not know. */
function checkConfig(config: DpGroupConfig): void {
  const given = (name: keyof DpGroupConfig) => (config as Partial<DpGroupConfig> | null | undefined)?.[name];
  if (typeof given('peekDpInitPorts') !== 'function' || typeof given('getNextDpInitPort') !== 'function') {
    const wanted = 'a parallel configuration, with getNextDpInitPort() and peekDpInitPorts()';
    throw refuse(op, 'config', wanted, config);
  }
  for (const name of ['dpSettings', 'dpBackend', 'dpVotes', 'holdsPort', 'handOver'] as const) {
    const value: unknown = given(name);
    if (value !== undefined && typeof value !== 'function') {
      throw refuse(op, `config's ${name}`, 'a function, or left out', value);
    }
  }
  const { dataParallelMasterIp: address, dataParallelSize: size, dataParallelRank: rank } = config;
  checkAddress(op, "config's dataParallelMasterIp", address);
  checkInteger(op, "config's dataParallelSize", size, 1, 65_536);
  checkInteger(op, "config's dataParallelRank", rank, 0, size - 1);
}

type Given = Omit<StatelessInitOptions, 'onWarning' | 'groupName'>;

/** The options, where the configuration has chosen CPUs: what they ask of devices is left out. */
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
 * taken. What was refused before that has used no port up: the other ranks know nothing of it.
 */
async function joinOnAny(
  config: DpGroupConfig,
  options: ProcessGroupOptions,
  onWarning: (text: string) => void,
): Promise<ProcessGroup> {
  const attempts = new InitAttempts(config, onWarning);
  let forming = false;
  try {
    const group = await ProcessGroup.create(options, {
      beforeForming: () => {
        forming = true;
      },
      onAddressInUse: (address) => {
        attempts.begin();
        attempts.retries(new AddressInUseError(address));
      },
    });
    // Ranks other than 0 are told of no failures, only where the group formed.
    const { portIndex } = group.info();
    while (attempts.made <= portIndex) attempts.begin();
    return group;
  } catch (error) {
    const tried = forming && !(error instanceof AddressInUseError) && !isOwnMistake(error);
    if (config.dataParallelRank === 0 && tried) attempts.begin();
    throw error;
  }
}

/** An argument that only the native side could judge, e.g. a descriptor that does not listen: nothing was bound. */
function isOwnMistake(error: unknown): boolean {
  return error instanceof InvalidArgumentError && error.consequence !== true;
}

function warn(text: string): void {
  process.emitWarning(text, { type: 'NodeCollectivesWarning', code: 'EADDRINUSE' });
}
