/** Forming a group: from a native group's events to the promise that create() returns. */
import type { CollectivesError } from '../errors.ts';
import { binding, type NativeGroup, type NativeGroupEvent } from '../native/binding.ts';
import { abortReason, whenAborted } from '../net/abortable.ts';
import { formationOver, publish, tidy } from './coordination.ts';
import { type GroupMessage, report } from './events.ts';
import { type Telling, telling } from './farewell.ts';
import type { Settled } from './options.ts';

interface Deferred<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
}

/** `Promise.withResolvers()`, which Node 20 does not have. */
function deferred<T>(): Deferred<T> {
  const out = {} as Deferred<T>;
  out.promise = new Promise<T>((resolve, reject) => Object.assign(out, { resolve, reject }));
  return out;
}

/** What the events of a native group lead to. */
interface Listener<G extends object> {
  readonly settled: Settled;
  readonly message: GroupMessage;
  /** Tells the group itself. */
  readonly notify: (group: G, event: NativeGroupEvent) => void;
  readonly end: () => void;
  group?: WeakRef<G>;
  /** Only until the group has formed or failed. */
  joining: { native: NativeGroup; joined: Deferred<G> } | undefined;
  failure?: CollectivesError;
  /** Ends listening to the caller's signal. */
  forget?: () => void;
  /** Its formation has failed, and the others are told. */
  telling?: Telling;
  /** Why joining was given up: the caller's own store has failed, with whatever it likes. */
  publishFailure?: { error: unknown };
}

/**
 * Runs a native group until it has formed or failed, and passes on its events for the rest of its life.
 *
 * @param make wraps the native group; `ended` resolves when nothing of it is open any more.
 */
export function form<G extends object>(
  settled: Settled,
  make: (native: NativeGroup, ended: Promise<void>) => G,
  notify: (group: G, event: NativeGroupEvent) => void,
): Promise<G> {
  const { promise: ended, resolve: end } = deferred<void>();
  const { groupName, rank, size } = settled.native;
  const listener: Listener<G> = {
    settled,
    message: { groupName, rank, size },
    notify,
    end,
    joining: undefined,
  };
  const native = new (binding().NativeGroup)(settled.native, callbackFor(listener));
  const group = make(native, ended);
  const joined = deferred<G>();
  listener.group = new WeakRef(group);
  listener.joining = { native, joined };
  // The group itself is kept by this promise chain until it has formed.
  const whole = joined.promise.finally(() => void group);
  try {
    // Before it starts: a rank whose signal has fired must not get so far as to complete the group.
    if (settled.signal?.aborted) native.abort(abortReason(settled.signal));
    native.start();
    listener.forget = abortedBy(new WeakRef(native), settled.signal);
  } catch (error) {
    joined.reject(error);
  }
  return whole;
}

/** For the group's whole life, which a signal that lives longer must not prolong. */
function abortedBy(native: WeakRef<NativeGroup>, signal: AbortSignal | undefined): () => void {
  return whenAborted(signal, (reason) => native.deref()?.abort(reason));
}

/**
 * Native code holds the callback for the group's life. Were the group or its native part held by it, an unreachable
 * group would never be collected, and never leave. Hence no closure within form(): all closures of one function keep
 * what any of them uses.
 */
function callbackFor<G extends object>(listener: Listener<G>): (event: NativeGroupEvent) => void {
  return (event) => onEvent(listener, event);
}

function onEvent<G extends object>(listener: Listener<G>, event: NativeGroupEvent): void {
  const { settled, message, joining } = listener;
  const group = listener.group?.deref();
  if (group !== undefined) listener.notify(group, event);
  switch (event.type) {
    case 'listening':
      void publish(settled, (address) => `${address} ${event.port}`).catch((error: unknown) => {
        // Who has formed the group has read it, whatever the store says later.
        if (listener.joining === undefined) return;
        listener.publishFailure = { error };
        listener.joining.native.abort('the coordination store could not be written');
      });
      return;
    case 'addressInUse':
      report('addressInUse', { ...message, address: event.address } as GroupMessage);
      settled.onAddressInUse?.(event.address);
      return;
    case 'refused': {
      const { rank, pid, host, reason } = event;
      report('refused', { ...message, claimant: { rank, pid, host }, reason } as GroupMessage);
      return;
    }
    case 'waiting': {
      const { op, seq, waitedMs, missing } = event;
      report('waiting', { ...message, op, seq, waitedMs, missing } as GroupMessage);
      return;
    }
    case 'formed':
      // Aborted just before: the group ends again, and create() with it. Nobody has it who could close it, and a
      // group that has failed waits for that.
      if (settled.signal?.aborted) {
        joining?.native.close();
        return;
      }
      listener.joining = undefined;
      report('formed', message);
      if (settled.coordination !== undefined && message.rank === 0) {
        // Whoever reads this formation's address has formed the group; re-formed, the group is there no more.
        const { formation } = settled.coordination;
        void tidy(settled.coordination, settled.native.lineage === '' ? formation - 1 : formation);
      }
      joining?.joined.resolve(group as G);
      return;
    case 'failed':
      listener.failure = event.error;
      report('failed', { ...message, error: event.error } as GroupMessage);
      return;
    case 'ended':
      // Only now are threads, descriptors and the port free again.
      listener.joining = undefined;
      listener.forget?.();
      if (joining !== undefined) {
        if (event.telling) listener.telling = telling(settled.native, () => joining.native.hush());
        else over(settled);
        joining.joined.reject(listener.publishFailure ? listener.publishFailure.error : listener.failure);
      } else report('closed', message);
      // Operations settle in the same turn, some promises deeper; close() comes after all of them.
      setImmediate(listener.end);
      return;
    case 'told':
      listener.telling?.over();
      over(settled);
      return;
  }
}

/** Best effort: a rank that comes later is spared the wait for a store that has gone. */
function over(settled: Settled): void {
  void publish(settled, () => formationOver).catch(() => {});
}
