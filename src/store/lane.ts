/**
 * The two native classes of the store, typed. A lane is one connection with one native thread, which makes
 * the calls on it one after the other.
 */
import { binding } from '../native/binding.ts';

/** The operations of a lane; the numbers are those of `native/napi/store_lane.h`. */
export const LaneOp = {
  connect: 0,
  set: 1,
  append: 2,
  multiSet: 3,
  tryGet: 4,
  get: 5,
  wait: 6,
  check: 7,
  add: 8,
  compareSet: 9,
  deleteKey: 10,
  numKeys: 11,
} as const;
export type LaneOp = (typeof LaneOp)[keyof typeof LaneOp];

/** One connection to a store. `usable` is false once the connection was lost or is out of step. */
export interface NativeStoreLane {
  call(
    op: LaneOp,
    keys: readonly string[],
    values: readonly Uint8Array[],
    amount: bigint,
    timeoutMs: number,
  ): Promise<unknown>;
  /** Ends the call under way at once; every pending and later call is rejected with `CLOSED`. */
  close(): void;
  readonly usable: boolean;
}

/** A store server with a native thread of its own. */
export interface NativeStoreServer {
  readonly host: string;
  readonly port: number;
  close(): void;
}

interface StoreClasses {
  /** The secret is empty for none. */
  StoreLane: new (
    host: string,
    port: number,
    secret: string,
  ) => NativeStoreLane;
  /** With a descriptor the port is not looked at. */
  StoreServer: new (
    hostOrFd: string | number,
    port: number,
    secret: string,
    allowUnauthenticated: boolean,
  ) => NativeStoreServer;
}

/** The native classes. Loads the addon on first use. */
export function storeClasses(): StoreClasses {
  return binding() as unknown as StoreClasses;
}
