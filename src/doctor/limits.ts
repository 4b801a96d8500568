/** Limits of this process and of the kernel that groups run into. */
import { amount, type Machine } from './files.ts';
import { type Finding, ok, warning } from './finding.ts';

/** A group of 64 ranks takes about two descriptors a rank, and a process may be in several. */
const fewDescriptors = 1_024;
/** NCCL pins memory and keeps about 10 MiB of shared memory for each pair of ranks on a host. */
const littleLocked = 64 * 2 ** 20;
const littleShared = 1 * 2 ** 30;

export function limits(on: Machine): Finding[] {
  const text = on.read('/proc/self/limits');
  const limit = (name: string): number | undefined => {
    const soft = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(text ?? '')?.[1];
    return soft === 'unlimited' ? Number.POSITIVE_INFINITY : soft === undefined ? undefined : Number(soft);
  };
  return [
    openFiles(limit('Max open files')),
    lockedMemory(limit('Max locked memory')),
    sharedMemory(on),
    ports(on),
  ].filter((finding) => finding !== undefined);
}

function openFiles(limit: number | undefined): Finding | undefined {
  if (limit === undefined) return undefined;
  const facts = { limit };
  if (limit > fewDescriptors) return ok('open files', `${limit}`, facts);
  return warning(
    'open files',
    `${limit}, which a process in several large groups uses up`,
    'raise it: `ulimit -n 65536`, or LimitNOFILE= of the service',
    facts,
  );
}

function lockedMemory(limit: number | undefined): Finding | undefined {
  if (limit === undefined) return undefined;
  const facts = { bytes: Number.isFinite(limit) ? limit : null };
  if (limit >= littleLocked)
    return ok('locked memory', Number.isFinite(limit) ? amount(limit) : 'unlimited', facts);
  return warning(
    'locked memory',
    `${amount(limit)}; enough for CPU groups, too little for NCCL over InfiniBand`,
    'on GPU hosts: `ulimit -l unlimited`, or `--ulimit memlock=-1` for a container',
    facts,
  );
}

function sharedMemory(on: Machine): Finding {
  const space = on.space('/dev/shm');
  if (space === undefined) {
    return warning('shared memory', '/dev/shm is not there', 'NCCL needs it: mount a tmpfs there');
  }
  const text = `/dev/shm ${amount(space.size)}, ${amount(space.free)} free`;
  if (space.free >= littleShared) return ok('shared memory', text, { ...space });
  return warning(
    'shared memory',
    `${text}; NCCL takes about 10 MiB for each pair of ranks on a host`,
    'on GPU hosts: `--shm-size=8g` for a container, or free what old jobs left there',
    { ...space },
  );
}

function ports(on: Machine): Finding | undefined {
  const text = on.read('/proc/sys/net/ipv4/ip_local_port_range');
  const [from = 0, to = 0] = (text ?? '').trim().split(/\s+/).map(Number);
  if (to === 0) return undefined;
  const reserved = (on.read('/proc/sys/net/ipv4/ip_local_reserved_ports') ?? '').trim();
  const count = to - from + 1;
  const facts = { from, to, reserved };
  const said = `the kernel gives out ${from} to ${to}${reserved === '' ? '' : `, but not ${reserved}`}`;
  if (count < 1_000) {
    return warning(
      'ports',
      `${said}: only ${count}`,
      'widen net.ipv4.ip_local_port_range; every rank takes one or two',
      facts,
    );
  }
  return ok('ports', said, facts);
}
