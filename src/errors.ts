/**
 * Every error class and code of this package. Native code reports `(code, message, facts)`; the class is
 * chosen here, by the code alone.
 */

/** What one rank called, where ranks called different operations. */
export interface RankCall {
  rank: number;
  /** e.g. `allReduce` */
  op: string;
  /** Number of the operation within its group; of `send` and `recv`, of the message from that rank to the other. */
  seq: number;
  /** Type of the elements, e.g. `float32`. */
  dtype: string;
  /** Elements of the array, or of one rank's block. */
  count: number;
  /** e.g. `sum`; absent where nothing is reduced. */
  reduceOp?: string;
  /** The root, or the other rank of `send` and `recv`; absent where there is none. */
  root?: number;
  /** Of `send` and `recv`. */
  tag?: number;
  /** True for a call on device memory. */
  device?: true;
}

/** Facts that come with an error beside its message. Absent where they do not apply. */
export interface ErrorFacts {
  /** The rank that reports the error; of a `RankLostError` the rank that was lost. */
  rank?: number;
  /** The rank that saw the failure itself: this one, or the one that told. */
  detectedBy?: number;
  /** The rank that caused it, where one is known. */
  peer?: number;
  /** Host name of that rank. */
  peerHost?: string;
  /** Process id of that rank. */
  peerPid?: number;
  /** The operation that met the failure, e.g. `allReduce` or `store.get`; if none did, the one that rejects with it. */
  op?: string;
  /** Number of the operation within its group, counted from 1. */
  seq?: number;
  /** Symbolic errno of the system call that failed, e.g. `ECONNRESET`. */
  errno?: string;
  /** Address concerned, e.g. `127.0.0.1:29500`. */
  address?: string;
  /** True where another rank met the cause and told this one. */
  consequence?: boolean;
  /** Ranks that had not arrived when a deadline passed. */
  missing?: number[];
  /** What the two ranks called that called different operations, the lower rank first; one, if no more is known. */
  calls?: readonly RankCall[];
}

/** Base class of all errors of this package. `code` is stable; the text may change. */
export class CollectivesError extends Error {
  readonly code: string;
  declare readonly rank?: number;
  declare readonly detectedBy?: number;
  declare readonly peer?: number;
  declare readonly peerHost?: string;
  declare readonly peerPid?: number;
  declare readonly op?: string;
  declare readonly seq?: number;
  declare readonly errno?: string;
  declare readonly address?: string;
  declare readonly consequence?: boolean;
  declare readonly missing?: number[];
  declare readonly calls?: readonly RankCall[];

  constructor(code: string, message: string, facts: ErrorFacts = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    Object.assign(this, facts);
  }
}

function errorClass(code: string) {
  return class extends CollectivesError {
    static readonly code = code;
    constructor(message: string, facts?: ErrorFacts, options?: ErrorOptions) {
      super(code, message, facts, options);
    }
  };
}

/** A wrong argument. Nothing was sent; the group is still usable. */
export class InvalidArgumentError extends errorClass('INVALID_ARGUMENT') {}
/** Every candidate port is taken by somebody else. */
export class AddressInUseError extends errorClass('EADDRINUSE') {}
/** The address to listen on is none of this host's. */
export class AddressUnavailableError extends errorClass('EADDRNOTAVAIL') {}
/** A deadline passed; `missing` names the ranks that had not arrived, where that is known. */
export class TimeoutError extends errorClass('TIMEOUT') {}
/** The wait was ended by `abort()`, an AbortSignal or the end of the environment. */
export class AbortedError extends errorClass('ABORTED') {}
/** The group or store was closed on this side. */
export class ClosedError extends errorClass('CLOSED') {}
/** A rank's process or link ended, or it fell silent; `rank`, `host` and `pid` say which, `detectedBy` who saw it. */
export class RankLostError extends errorClass('RANK_LOST') {
  /** The rank that was lost; `peer` is the same. */
  declare readonly rank?: number;
  /** Host name of that rank; `peerHost` is the same. */
  declare readonly host?: string;
  /** Process id of that rank; `peerPid` is the same. */
  declare readonly pid?: number;
  /** True where another rank, `detectedBy`, saw the loss and told this one. */
  declare readonly consequence: boolean;

  constructor(message: string, facts: ErrorFacts = {}, options?: ErrorOptions) {
    super(message, facts, options);
    const { peer = facts.rank, peerHost, peerPid, consequence = false } = facts;
    Object.assign(this, {
      ...(peer === undefined ? {} : { rank: peer, peer }),
      ...(peerHost === undefined ? {} : { host: peerHost }),
      ...(peerPid === undefined ? {} : { pid: peerPid }),
      consequence,
    });
  }
}
/** Another process already holds this rank in the group. */
export class RankTakenError extends errorClass('RANK_TAKEN') {}
/** The group that was found differs from the one asked for, e.g. in its world size. */
export class GroupMismatchError extends errorClass('GROUP_MISMATCH') {}
/** No store of this group was found in time, or forming the group failed on some rank. */
export class RendezvousError extends errorClass('RENDEZVOUS_FAILED') {}
/** Ranks called different operations; `calls` has what each of two has called. */
export class CollectiveMismatchError extends errorClass('COLLECTIVE_MISMATCH') {}
/** The other side did not prove the secret, or only one of the two sides has one. */
export class AuthenticationError extends errorClass('AUTHENTICATION_FAILED') {}
/** The other side does not speak the protocol as agreed. */
export class ProtocolError extends errorClass('PROTOCOL') {}
/** A socket call failed; `errno` says how. */
export class NetworkError extends errorClass('NETWORK') {}
/** Out of file descriptors, memory or threads. */
export class ResourceError extends errorClass('RESOURCE') {}
/** The backend asked for cannot be used here. */
export class BackendUnavailableError extends errorClass('BACKEND_UNAVAILABLE') {}
/** The library that was loaded (NCCL, RCCL, a driver) does not have what was asked for. */
export class UnsupportedError extends errorClass('UNSUPPORTED') {}
/** A GPU's driver, or NCCL or RCCL, reported a failure. */
export class DeviceError extends errorClass('DEVICE') {}
/** The native addon could not be loaded; the message lists every attempt. */
export class AddonLoadError extends errorClass('ADDON_NOT_LOADED') {}
/** A defect of this package; please report it. */
export class InternalError extends errorClass('INTERNAL') {}

const classes = [
  InvalidArgumentError,
  AddressInUseError,
  AddressUnavailableError,
  TimeoutError,
  AbortedError,
  ClosedError,
  RankLostError,
  RankTakenError,
  GroupMismatchError,
  RendezvousError,
  CollectiveMismatchError,
  AuthenticationError,
  ProtocolError,
  NetworkError,
  ResourceError,
  BackendUnavailableError,
  UnsupportedError,
  DeviceError,
  AddonLoadError,
  InternalError,
];

/** All error classes by their code. */
export const errorClasses: ReadonlyMap<string, (typeof classes)[number]> = new Map(
  classes.map((c) => [c.code, c]),
);

/** Makes the error for a code; the native side calls it for every failure it reports. @internal */
export function makeError(code: string, message: string, facts: ErrorFacts): CollectivesError {
  const Class = errorClasses.get(code) ?? InternalError;
  return new Class(message, facts);
}
