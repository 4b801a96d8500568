/** The public API: re-exports only. */

export type { ConfigContext } from './config/context.ts';
export { EPLBConfig, type EPLBConfigInput, type EPLBFields } from './config/eplb-config.ts';
export {
  type ConfigIssue,
  ConfigValidationError,
  MissingVariableError,
  ZeroDivisionError,
} from './config/errors.ts';
export { Executor, type ExecutorClass } from './config/executor.ts';
export type { HashFactor } from './config/hash.ts';
export { detectHost, type HostFacts } from './config/host.ts';
export type {
  ParallelConfigInput,
  ParallelFields,
} from './config/parallel-settings.ts';
export type { HeldPort } from './config/ports.ts';
export {
  type ParallelArguments,
  type ParseOptions,
  parseKnownParallelArgs,
  parseParallelArgs,
} from './config/sources.ts';
export { type CopyOptions, DeviceBuffer } from './device/buffer.ts';
export { type DeviceInfo, devices } from './device/lane.ts';
export { Event, Stream, type StreamOptions } from './device/stream.ts';
export {
  AbortedError,
  AddonLoadError,
  AddressInUseError,
  AddressUnavailableError,
  AuthenticationError,
  BackendUnavailableError,
  ClosedError,
  CollectiveMismatchError,
  CollectivesError,
  DeviceError,
  type ErrorFacts,
  errorClasses,
  GroupMismatchError,
  InternalError,
  InvalidArgumentError,
  NetworkError,
  ProtocolError,
  type RankCall,
  RankLostError,
  RankTakenError,
  RendezvousError,
  ResourceError,
  TimeoutError,
  UnsupportedError,
} from './errors.ts';
export type { CollectiveArray, DTypeName, ReduceOpName } from './group/arrays.ts';
export type {
  AllGatherOptions,
  AllReduceOptions,
  AllToAllOptions,
  ArrayOptions,
  BroadcastOptions,
  OperationOptions,
  RecvOptions,
  ReduceOptions,
  ReduceScatterOptions,
  SendOptions,
} from './group/collectives.ts';
export type {
  DeviceOptions,
  DeviceOutOptions,
  DeviceRecvOptions,
  DeviceReduceOptions,
  DeviceReduceScatterOptions,
  DeviceReduceToOptions,
  DeviceRootOptions,
  DeviceSendOptions,
} from './group/device-collectives.ts';
export {
  addressInUseWarning,
  type BackendChoice,
  type DpGroupConfig,
  type DpInitPorts,
  maxInitAttempts,
  type StatelessInitOptions,
  statelessInitDpGroup,
  type VotesChoice,
} from './group/dp.ts';
export type {
  AddressInUseMessage,
  FailedMessage,
  FallbackMessage,
  GroupMessage,
  OperationMessage,
  RefusedMessage,
  WaitingMessage,
} from './group/events.ts';
export type { FormationTimes, GroupInfo, GroupMember } from './group/info.ts';
export type { CoordinationStore, ProcessGroupOptions } from './group/options.ts';
export { ParallelConfig } from './group/parallel-config.ts';
export { ProcessGroup } from './group/process-group.ts';
export type { NextGeneration, ReformOptions } from './group/reform.ts';
export {
  type DpState,
  type DpStateResult,
  hasUnfinishedDp,
  hasUnfinishedDpSync,
  syncDpState,
  syncDpStateSync,
  syncKvCacheMemorySize,
  syncKvCacheMemorySizeSync,
} from './group/votes.ts';
export { type DpEnvironment, dpConfigFromEnv } from './launch/dp-environment.ts';
export {
  type RankInfo,
  type RankSource,
  rankFromEnvironment,
} from './launch/environment.ts';
export { listenFdFromEnvironment } from './net/listen-fd.ts';
export type { Dump, DumpedFailure, DumpedGroup } from './observe/dump.ts';
export { formatPrometheus } from './observe/prometheus.ts';
export type {
  GroupStats,
  KindStats,
  LatencyStats,
  LinkStats,
  OperationRecord,
} from './observe/stats.ts';
export { type DieWithParentOptions, dieWithParent } from './process/die-with-parent.ts';
export {
  type StoreCallOptions,
  type StoreConnectOptions,
  type StoreListenOptions,
  type StoreValue,
  TcpStore,
} from './store/tcp-store.ts';
