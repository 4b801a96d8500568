/** What groups report on `node:diagnostics_channel`. Nothing is printed unless somebody subscribes. */
import { channel, tracingChannel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';
import type { CollectivesError } from '../errors.ts';
import type { OperationRecord } from '../observe/stats.ts';

/** Fields that every message has. */
export interface GroupMessage {
  groupName: string;
  rank: number;
  size: number;
}
/**
 * `node-collectives:waiting`: a wait has lasted 5 s, then 30 s; `missing` are the ranks that have not come.
 */
export interface WaitingMessage extends GroupMessage {
  /** `join` or the operation's name. */
  op: string;
  /** Number of the operation, 0 while joining. */
  seq: number;
  waitedMs: number;
  missing: number[];
}
/** `node-collectives:refused`, on rank 0: a process asked for a place in the group and was turned away. */
export interface RefusedMessage extends GroupMessage {
  /** What that process called itself. */
  claimant: { rank: number; pid: number; host: string };
  reason: string;
}
/** `node-collectives:operation`: an operation has ended, well or badly. */
export interface OperationMessage extends GroupMessage {
  operation: OperationRecord;
}
/** `node-collectives:fallback`: a group is formed on CPUs where the platform has GPUs. */
export interface FallbackMessage extends GroupMessage {
  from: string;
  to: string;
  reason: string;
}
/** `node-collectives:failed`: joining, or the group, has failed. */
export interface FailedMessage extends GroupMessage {
  error: CollectivesError;
}
/** `node-collectives:address-in-use`, on rank 0: a candidate port is taken. */
export interface AddressInUseMessage extends GroupMessage {
  address: string;
}

export const channels = {
  formed: channel('node-collectives:formed'),
  operation: channel('node-collectives:operation'),
  waiting: channel('node-collectives:waiting'),
  refused: channel('node-collectives:refused'),
  addressInUse: channel('node-collectives:address-in-use'),
  fallback: channel('node-collectives:fallback'),
  failed: channel('node-collectives:failed'),
  closed: channel('node-collectives:closed'),
} as const;

/** Every operation from its call to its end, with the async context of the caller. */
export const operationTrace = tracingChannel('node-collectives:operation');

const debug = debuglog('node-collectives');

/** Publishes to the channel's subscribers, and to `NODE_DEBUG=node-collectives`. */
export function report(name: keyof typeof channels, message: GroupMessage): void {
  debug('%s %o', name, message);
  if (channels[name].hasSubscribers) channels[name].publish(message);
}
