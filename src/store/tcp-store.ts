/**
 * A key-value store over TCP that speaks the wire protocol of PyTorch's TCPStore, as server and as client.
 */
import { InvalidArgumentError } from '../errors.ts';
import { resolveWithin } from '../net/hosts.ts';
import { type AccessOptions, accessOf, checkExposure } from '../net/secret.ts';
import { optionNames } from '../option-names.ts';
import {
  checkAmount,
  checkFd,
  checkHost,
  checkKey,
  checkKeys,
  checkOptions,
  checkPort,
  checkSignal,
  checkTimeout,
  checkValue,
} from './arguments.ts';
import { type Call, Connections } from './connections.ts';
import { LaneOp, type NativeStoreServer, storeClasses } from './lane.ts';

/** What every operation takes besides its arguments. */
export interface StoreCallOptions {
  /** Milliseconds until the operation fails with TimeoutError. Default: the store's `operationTimeoutMs`. */
  timeoutMs?: number;
  /**
   * Ends the operation at once with AbortedError (`cause` is the signal's reason). What was already sent may
   * still take place.
   */
  signal?: AbortSignal;
}

/** What TcpStore.connect() takes. */
export interface StoreConnectOptions extends Pick<AccessOptions, 'secret'> {
  /** Host name or address of the server. */
  host: string;
  /** Port of the server, from 1. */
  port: number;
  /** Milliseconds to look for the server, which may come later than its clients. Default 60,000. */
  timeoutMs?: number;
  /** Default limit of each operation, in milliseconds. Default 300,000. */
  operationTimeoutMs?: number;
  /** Ends the connecting. */
  signal?: AbortSignal;
}

/** What TcpStore.listen() takes. */
export interface StoreListenOptions extends AccessOptions {
  /** Address to listen on, exactly. Default 127.0.0.1. */
  host?: string;
  /** 0, the default, lets the kernel choose. */
  port?: number;
  /** A listening TCP socket to take over instead; it belongs to the store from then on. */
  listenFd?: number;
  /** Milliseconds for the host's name and for the first connection to the server itself. Default 60,000. */
  timeoutMs?: number;
  /** Default limit of each operation, in milliseconds. Default 300,000. */
  operationTimeoutMs?: number;
  /** Ends the start. */
  signal?: AbortSignal;
}

const callNames = optionNames<StoreCallOptions>({ timeoutMs: true, signal: true });
const connectNames = optionNames<StoreConnectOptions>({
  host: true,
  port: true,
  timeoutMs: true,
  operationTimeoutMs: true,
  signal: true,
  secret: true,
});
const listenNames = optionNames<StoreListenOptions>({
  host: true,
  port: true,
  listenFd: true,
  timeoutMs: true,
  operationTimeoutMs: true,
  signal: true,
  secret: true,
  allowUnauthenticated: true,
});

/** Values are bytes; a string goes out as UTF-8. */
export type StoreValue = string | Uint8Array;

interface Shared {
  host: string;
  port: number;
  operationTimeoutMs: number;
  connections: Connections;
  server: NativeStoreServer | undefined;
}

/**
 * A client of a TCPStore; made by `listen`, it also is the server.
 *
 * Operations of one object are served in the order they were called, except that one which has to wait for
 * keys does so on a connection of its own (and with a native thread of its own): it never holds up another. A
 * client always reads its own writes. An open store does not keep the process alive; a pending operation
 * does.
 *
 * Every operation may fail with InvalidArgumentError (nothing was sent), TimeoutError, AbortedError,
 * ClosedError after `close()`, NetworkError when the connection was lost (there is no reconnecting: close
 * this store), and ProtocolError when the server answers something else than a TCPStore would.
 */
export class TcpStore implements AsyncDisposable {
  readonly #shared: Shared;
  readonly #prefix: string;

  private constructor(shared: Shared, prefix: string) {
    this.#shared = shared;
    this.#prefix = prefix;
  }

  /**
   * Starts a server and connects to it.
   *
   * @throws AddressInUseError, AddressUnavailableError; InvalidArgumentError also for an address that other hosts reach,
   *   without a secret and without `allowUnauthenticated`; TimeoutError, AbortedError
   */
  static async listen(options: StoreListenOptions = {}): Promise<TcpStore> {
    const op = 'store.listen';
    const given = checkOptions(op, options, listenNames) as StoreListenOptions;
    const timeoutMs = checkTimeout(op, given.timeoutMs, 60_000);
    const signal = checkSignal(op, given.signal);
    const began = performance.now();
    const operationTimeoutMs = checkTimeout(op, given.operationTimeoutMs, 300_000, 'operationTimeoutMs');
    const access = accessOf(op, given);
    const { StoreServer } = storeClasses();
    let server: NativeStoreServer;
    if (given.listenFd !== undefined) {
      if (given.host !== undefined || given.port !== undefined) {
        throw new InvalidArgumentError(`${op}: listenFd has an address already, leave out host and port`, {
          op,
        });
      }
      server = new StoreServer(checkFd(op, given.listenFd), -1, access.secret, access.allowUnauthenticated);
    } else {
      const port = checkPort(op, given.port === undefined ? 0 : given.port, 0);
      const host = checkHost(op, given.host === undefined ? '127.0.0.1' : given.host);
      const address = await bestAddress(op, host, timeoutMs, signal);
      checkExposure(op, [address], access);
      server = new StoreServer(address, port, access.secret, access.allowUnauthenticated);
    }
    try {
      const { host, port } = server;
      const connections = new Connections(reachable(host), port, access.secret);
      await connections.connect(left(timeoutMs, began), signal);
      return new TcpStore({ host, port, operationTimeoutMs, connections, server }, '/');
    } catch (error) {
      server.close();
      throw error;
    }
  }

  /**
   * Connects to a server, ours or PyTorch's, retrying every few milliseconds while it is not there yet.
   *
   * @throws TimeoutError, NetworkError for a host without address, ProtocolError if something else listens
   *   there, AuthenticationError if it has another secret, or only one of the two sides has one
   */
  static async connect(options: StoreConnectOptions): Promise<TcpStore> {
    const op = 'store.connect';
    const given = checkOptions(op, options, connectNames) as StoreConnectOptions;
    const name = checkHost(op, given.host);
    const port = checkPort(op, given.port, 1);
    const timeoutMs = checkTimeout(op, given.timeoutMs, 60_000);
    const operationTimeoutMs = checkTimeout(op, given.operationTimeoutMs, 300_000, 'operationTimeoutMs');
    const signal = checkSignal(op, given.signal);
    const { secret } = accessOf(op, given);
    const began = performance.now();
    const host = await bestAddress(op, name, timeoutMs, signal);
    const connections = new Connections(host, port, secret);
    await connections.connect(left(timeoutMs, began), signal);
    return new TcpStore({ host, port, operationTimeoutMs, connections, server: undefined }, '/');
  }

  /** Numeric address of the server. */
  get host(): string {
    return this.#shared.host;
  }

  /** Port of the server. */
  get port(): number {
    return this.#shared.port;
  }

  /** True after `close()`. */
  get closed(): boolean {
    return this.#shared.connections.closed;
  }

  /**
   * A view whose keys all begin with `name/`, as PyTorch's PrefixStore makes them. Views nest, outermost
   * first. They share the connections: closing one closes all.
   */
  prefix(name: string): TcpStore {
    return new TcpStore(this.#shared, `${checkKey('store.prefix', this.#prefix, name, 'name')}/`);
  }

  /** Sets a key, made or replaced. Resolves once the server has done it. */
  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const call = this.#one('store.set', LaneOp.set, key, options);
    await this.#run({ ...call, values: [checkValue(call.name, value)] });
  }

  /** The value of a key, as soon as it is there. */
  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    const [value] = await this.#shared.connections.fetch(this.#one('store.get', LaneOp.get, key, options));
    return value as Uint8Array;
  }

  /** Resolves once all keys are there. */
  async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    await this.#shared.connections.wait(this.#many('store.wait', LaneOp.wait, keys, options));
  }

  /** Whether all keys are there at this moment. */
  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return (await this.#run(this.#many('store.check', LaneOp.check, keys, options))) as boolean;
  }

  /**
   * Adds to a counter, which begins at 0 and is decimal text to `get` and `set`; the new sum.
   *
   * @param amount a safe integer or a bigint of 64 bits
   * @throws NetworkError if the value there is no number, or the sum none of 64 bits: the protocol has no
   * answer for that but closing the connection
   */
  async add(key: string, amount: number | bigint, options?: StoreCallOptions): Promise<bigint> {
    const call = this.#one('store.add', LaneOp.add, key, options);
    return (await this.#run({ ...call, amount: checkAmount(call.name, amount) })) as bigint;
  }

  /**
   * Sets the key to `desired` if its value is `expected`, or if it is absent and `expected` is empty. Returns
   * the value that is there afterwards. For an absent key and an `expected` that is not empty the protocol
   * returns `expected`, though nothing was set.
   */
  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    const call = this.#one('store.compareSet', LaneOp.compareSet, key, options);
    const values = [checkValue(call.name, expected, 'expected'), checkValue(call.name, desired, 'desired')];
    const [value] = (await this.#run({ ...call, values })) as Uint8Array[];
    return value as Uint8Array;
  }

  /** Whether the key was there. Nobody who waits for it is concerned. */
  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return (await this.#run(this.#one('store.deleteKey', LaneOp.deleteKey, key, options))) as boolean;
  }

  /** Number of keys of the whole server, through a prefix too. */
  async numKeys(options?: StoreCallOptions): Promise<number> {
    return Number(await this.#run(this.#call('store.numKeys', LaneOp.numKeys, [], options)));
  }

  /** The values of all keys, in their order, as soon as all are there. */
  async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    return this.#shared.connections.fetch(this.#many('store.multiGet', LaneOp.get, keys, options));
  }

  /** Sets several keys in one request; `values[i]` for `keys[i]`. 60 MiB in all at most. */
  async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    const call = this.#many('store.multiSet', LaneOp.multiSet, keys, options);
    if (!Array.isArray(values) || values.length !== keys.length) {
      throw new InvalidArgumentError(`${call.name}: values must be an array as long as keys`, {
        op: call.name,
      });
    }
    await this.#run({
      ...call,
      values: values.map((value, i) => checkValue(call.name, value, `values[${i}]`)),
    });
  }

  /** Appends to the value of a key, which is made if need be. A value has 8 MiB at most. */
  async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const call = this.#one('store.append', LaneOp.append, key, options);
    await this.#run({ ...call, values: [checkValue(call.name, value)] });
  }

  /**
   * Closes the connections, and the server if it is ours. What is pending ends with ClosedError. Idempotent.
   */
  async close(): Promise<void> {
    this.#shared.connections.close();
    this.#shared.server?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #run(call: Call): Promise<unknown> {
    return this.#shared.connections.run(call);
  }

  /** A call about one key. */
  #one(name: string, op: LaneOp, key: unknown, options: unknown): Call {
    return this.#call(name, op, [checkKey(name, this.#prefix, key)], options);
  }

  /** A call about a list of keys. */
  #many(name: string, op: LaneOp, keys: unknown, options: unknown): Call {
    return this.#call(name, op, checkKeys(name, this.#prefix, keys), options);
  }

  #call(name: string, op: LaneOp, keys: string[], options: unknown): Call {
    const given = checkOptions(name, options, callNames) as StoreCallOptions;
    return {
      name,
      op,
      keys,
      timeoutMs: checkTimeout(name, given.timeoutMs, this.#shared.operationTimeoutMs),
      signal: checkSignal(name, given.signal),
    };
  }
}

/** Where to reach a server of this host that listens on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** What is left of a limit since `began`; ms. */
const left = (limitMs: number, began: number) =>
  Math.max(1, Math.ceil(limitMs - (performance.now() - began)));

async function bestAddress(
  op: string,
  host: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<string> {
  return (await resolveWithin(op, host, timeoutMs, signal))[0] as string;
}
