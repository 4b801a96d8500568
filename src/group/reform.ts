/** Re-forming: the next generation of a group, from the ranks that are left and newcomers. docs/reforming.md. */
import { isIP } from 'node:net';
import { checkInteger, checkOptions, checkTimeout, orDefault, refuse } from '../arguments.ts';
import {
  ClosedError,
  CollectivesError,
  type ErrorFacts,
  InvalidArgumentError,
  makeError,
  RankLostError,
} from '../errors.ts';
import type { NativeGroup, NativeGroupEvent, NativeGroupInfo } from '../native/binding.ts';
import { optionNames } from '../option-names.ts';
import { hush } from './farewell.ts';
import type { Settled } from './options.ts';

/** What `reform()` makes the next generation from. */
export interface ReformOptions {
  /** The ranks of this group that go on. Default: all that this rank does not know to be gone. */
  ranks?: readonly number[];
  /** Size of the new group. Above the number of `ranks`, newcomers take the ranks that follow. Default: no newcomers. */
  worldSize?: number;
  /** Milliseconds it may take; the group's `initTimeoutMs` otherwise. */
  timeoutMs?: number;
  /** Gives this attempt up, for all ranks. */
  signal?: AbortSignal;
}

/** Where the next generation meets: options for a newcomer's `ProcessGroup.create()`. */
export interface NextGeneration {
  masterAddr: string;
  masterPort: number;
  generation: number;
}

const names = optionNames<ReformOptions>({ ranks: true, worldSize: true, timeoutMs: true, signal: true });

/** How long a loss that an attempt reports may take to show on the old group's link as well. */
const confirmMs = 300;
/** Where else a rank looks for an attempt that means other ranks. */
const mostOtherPlaces = 3;

/** One attempt, while it is under way. */
interface Attempt {
  /** Old ranks that go on; the index is the new rank. */
  ranks: readonly number[];
  control: AbortController;
  native?: NativeGroup;
}

/** What a group knows about its successor. One for each ProcessGroup. */
export class Succession {
  readonly #settled: Settled;
  readonly #native: NativeGroup;
  readonly #lost = new Set<number>();
  #closed = false;
  #attempt: Attempt | undefined;
  #confirm: (() => void) | undefined;

  constructor(settled: Settled, native: NativeGroup) {
    this.#settled = settled;
    this.#native = native;
  }

  /** Ranks that cannot take part, as far as this one knows. */
  get lost(): number[] {
    return [...this.#lost].sort((a, b) => a - b);
  }

  get next(): NextGeneration {
    const lowest = this.#all().find((rank) => !this.#lost.has(rank)) as number;
    const { hosts, port } = this.#place(lowest);
    return { masterAddr: hosts[0] as string, masterPort: port, generation: this.#formed().generation + 1 };
  }

  /** Where that rank would have the next generation meet. */
  placeOf(rank: number): string {
    const { hosts, port } = this.#place(rank);
    const [host = ''] = hosts;
    return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
  }

  /** Call for every event of the native group, and for every failure that a call has met. */
  onEvent(event: NativeGroupEvent): void {
    if (event.type === 'gone') this.#gone(event.rank);
    if (event.type === 'failed') this.onFailure(event.error);
  }

  onFailure(error: CollectivesError): void {
    const { rank } = this.#settled.native;
    // Also where this rank was given up itself: that is the others' view, and theirs alone.
    if (error instanceof RankLostError && error.peer !== undefined && error.peer !== rank)
      this.#gone(error.peer);
  }

  /** The group is aborted on this rank: so is an attempt. */
  abort(reason: string): void {
    this.#attempt?.control.abort(new Error(reason));
  }

  /** The group is closed on this rank. */
  close(): void {
    this.#closed = true;
    this.abort('close() was called on the group that was being re-formed');
  }

  /**
   * Forms the next generation.
   *
   * @param form makes a group, telling its native part before it starts.
   */
  async reform<G>(
    options: ReformOptions,
    form: (settled: Settled, onNative: (native: NativeGroup) => void) => Promise<G>,
  ): Promise<G> {
    const { rank: me, size: oldSize } = this.#settled.native;
    const facts = { rank: me, op: 'reform' };
    const { signal, timeoutMs } = this.#checked(options);
    if (this.#closed) {
      throw new ClosedError('reform: the group is closed on this rank', facts);
    }
    if (this.#attempt !== undefined) {
      throw new InvalidArgumentError('reform: this group is being re-formed already; wait for that', facts);
    }
    const ranks = this.#participants(options.ranks);
    const size = checkInteger(
      'reform',
      'worldSize',
      orDefault(options.worldSize, ranks.length),
      ranks.length,
      65_536,
    );
    const attempt: Attempt = { ranks, control: new AbortController() };
    const onAbort = () => attempt.control.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    // Before the call as well: the others may be at it, and are told.
    if (signal?.aborted) onAbort();
    this.#attempt = attempt;
    try {
      const next = this.#successor(attempt, size, timeoutMs);
      hush(next.native);
      return await form(next, (native) => {
        attempt.native = native;
      });
    } catch (error) {
      this.#attempt = undefined;
      if (!(error instanceof CollectivesError)) throw error;
      const inOld = renumbered(error, ranks, oldSize);
      if (error instanceof RankLostError && inOld.peer !== undefined) await this.#confirmed(inOld.peer);
      const { generation } = this.#formed();
      throw makeError(
        error.code,
        `generation ${generation + 1} of group '${this.#settled.native.groupName}' was not formed from ranks ` +
          `${ranks.join(', ')} of generation ${generation}: ${error.message}`,
        { ...inOld, ...facts },
      );
    } finally {
      this.#attempt = undefined;
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #formed(): NativeGroupInfo {
    return this.#native.info() as NativeGroupInfo;
  }

  #all(): number[] {
    return Array.from({ length: this.#settled.native.size }, (_, rank) => rank);
  }

  #checked(options: ReformOptions): { signal: AbortSignal | undefined; timeoutMs: number } {
    checkOptions('reform', options, names);
    const { signal, timeoutMs = this.#settled.initTimeoutMs } = options;
    checkTimeout('reform', 'timeoutMs', timeoutMs);
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw refuse('reform', 'signal', 'an AbortSignal', signal);
    }
    return { signal, timeoutMs };
  }

  #participants(given: unknown): number[] {
    const { rank: me, size } = this.#settled.native;
    if (given === undefined) return this.#all().filter((rank) => !this.#lost.has(rank));
    if (!Array.isArray(given)) throw refuse('reform', 'ranks', 'an array of ranks', given);
    const ranks = given.map((rank) => checkInteger('reform', 'a rank in ranks', rank, 0, size - 1));
    ranks.sort((a, b) => a - b);
    const twice = ranks.find((rank, i) => ranks[i + 1] === rank);
    if (twice !== undefined) throw refuse('reform', 'ranks', 'ranks that differ', given);
    if (!ranks.includes(me)) {
      throw new InvalidArgumentError(
        `reform: ranks are ${ranks.join(', ')}, without this rank, ${me}; a rank that does not go on calls close()`,
        { rank: me, op: 'reform' },
      );
    }
    const lost = ranks.find((rank) => this.#lost.has(rank));
    if (lost !== undefined) {
      const { host, pid } = this.#formed().members[lost] as NativeGroupInfo['members'][0];
      throw new RankLostError(
        `reform: rank ${lost} (pid ${pid} on ${host}) is gone and cannot go on; leave it out of ranks`,
        { rank: me, op: 'reform', peer: lost, peerHost: host, peerPid: pid },
      );
    }
    return ranks;
  }

  #place(rank: number): { hosts: string[]; port: number } {
    const { address, heldPort } = this.#formed().members[rank] as NativeGroupInfo['members'][0];
    // Rank 0 that listens on all its addresses: where this rank has reached it.
    const wildcard = /^[0.]+$/.test(address) || address === '::';
    return { hosts: wildcard ? this.#settled.native.hosts : [address], port: heldPort };
  }

  /** Settings of the next generation: those of this one, but for what makes it another. */
  #successor(attempt: Attempt, size: number, timeoutMs: number): Settled {
    const { native } = this.#settled;
    const { ranks } = attempt;
    const { generation, lineage } = this.#formed();
    const first = ranks[0] as number;
    const rank = ranks.indexOf(native.rank);
    const { hosts, port } = this.#place(first);
    const others = this.#all()
      .filter((other) => other < native.rank && other !== first && !this.#lost.has(other))
      .slice(0, rank === 0 ? 0 : mostOtherPlaces)
      .map((other) => this.#place(other));
    return {
      ...this.#settled,
      native: {
        ...native,
        hosts,
        ports: [port],
        alsoAt: others.flatMap((other) => [other.hosts[0] as string, String(other.port)]),
        listenFd: rank === 0 ? this.#native.meet() : -1,
        rank,
        size,
        generation: generation + 1,
        lineage,
        ranks: [...ranks],
        lost: this.lost,
        initTimeoutMs: Math.ceil(timeoutMs),
      },
      signal: attempt.control.signal,
      publish: undefined,
      // The first time only: then its address is deleted.
      coordination: native.lineage === '' ? this.#settled.coordination : undefined,
      onAddressInUse: undefined,
    };
  }

  #gone(rank: number): void {
    this.#lost.add(rank);
    this.#confirm?.();
    const attempt = this.#attempt;
    const newRank = attempt?.ranks.indexOf(rank) ?? -1;
    if (newRank < 0) return;
    const { host, pid } = this.#formed().members[rank] as NativeGroupInfo['members'][0];
    attempt?.native?.lose(newRank, host, pid);
  }

  /**
   * An attempt says that a rank was lost. Should its link in the old group hold, it lives, and was only slow; else the
   * next attempt is to leave it out.
   */
  async #confirmed(rank: number): Promise<void> {
    if (rank >= this.#settled.native.size || this.#lost.has(rank)) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, confirmMs);
      this.#confirm = () => {
        if (!this.#lost.has(rank)) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#confirm = undefined;
  }
}

/** The facts of an error of the new group, in ranks of the old one; newcomers count on from its size. */
function renumbered(error: CollectivesError, ranks: readonly number[], oldSize: number): ErrorFacts {
  const { name: _name, code: _code, ...facts } = { ...error } as CollectivesError & ErrorFacts;
  const old = (rank: number) => ranks[rank] ?? oldSize + rank - ranks.length;
  return {
    ...facts,
    ...(facts.detectedBy === undefined ? {} : { detectedBy: old(facts.detectedBy) }),
    ...(facts.peer === undefined ? {} : { peer: old(facts.peer) }),
    ...(facts.missing === undefined ? {} : { missing: facts.missing.map(old) }),
  };
}
