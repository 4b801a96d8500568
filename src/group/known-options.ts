/** The options that each operation of a group takes. */
import { optionNames } from '../option-names.ts';
import type { CollectiveArray } from './arrays.ts';
import type {
  AllGatherOptions,
  AllReduceOptions,
  AllToAllOptions,
  BroadcastOptions,
  OperationOptions,
  RecvOptions,
  ReduceOptions,
  ReduceScatterOptions,
  SendOptions,
} from './collectives.ts';
import type {
  DeviceOptions,
  DeviceOutOptions,
  DeviceRecvOptions,
  DeviceReduceOptions,
  DeviceReduceScatterOptions,
  DeviceReduceToOptions,
  DeviceRootOptions,
  DeviceSendOptions,
} from './device-collectives.ts';

const limits = { timeoutMs: true, signal: true } as const;

/** Of an operation without memory: a vote, barrier(), close(). */
export const operationNames = optionNames<OperationOptions>(limits);

const ofArrays = { ...limits, dtype: true, staging: true };

/** Of the operations on arrays. */
export const arrayNames = {
  allReduce: optionNames<AllReduceOptions<CollectiveArray>>({ ...ofArrays, op: true, out: true }),
  broadcast: optionNames<BroadcastOptions>({ ...ofArrays, root: true }),
  allGather: optionNames<AllGatherOptions<CollectiveArray>>({ ...ofArrays, out: true }),
  reduce: optionNames<ReduceOptions<CollectiveArray>>({ ...ofArrays, op: true, root: true, out: true }),
  reduceScatter: optionNames<ReduceScatterOptions<CollectiveArray>>({ ...ofArrays, op: true, out: true }),
  allToAll: optionNames<AllToAllOptions<CollectiveArray>>({ ...ofArrays, out: true }),
  send: optionNames<SendOptions>({ ...ofArrays, to: true, tag: true }),
  recv: optionNames<RecvOptions>({ ...ofArrays, from: true, tag: true }),
};

const ofDevices = {
  ...limits,
  dtype: true,
  count: true,
  stream: true,
  resolve: true,
} satisfies Record<keyof DeviceOptions, true>;

/** Of the same on device memory. */
export const deviceNames = {
  allReduce: optionNames<DeviceReduceOptions>({ ...ofDevices, op: true, out: true }),
  broadcast: optionNames<DeviceRootOptions>({ ...ofDevices, root: true }),
  allGather: optionNames<DeviceOutOptions>({ ...ofDevices, out: true }),
  reduce: optionNames<DeviceReduceToOptions>({ ...ofDevices, op: true, root: true, out: true }),
  reduceScatter: optionNames<DeviceReduceScatterOptions>({ ...ofDevices, op: true, out: true }),
  allToAll: optionNames<DeviceOutOptions>({ ...ofDevices, out: true }),
  send: optionNames<DeviceSendOptions>({ ...ofDevices, to: true, tag: true }),
  recv: optionNames<DeviceRecvOptions>({ ...ofDevices, from: true, tag: true }),
};
