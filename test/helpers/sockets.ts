/** Free ports, and what the kernel says of TCP sockets: /proc/net/tcp and tcp6, and whose they are. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Server } from 'node:net';
import { onTestFinished } from 'vitest';
import { home } from './spread.ts';

export interface TcpSocket {
  /** Of this side, as text; IPv6 but for `::1` and `::` with all its digits. */
  address: string;
  port: number;
  state: 'listening' | 'established' | 'other';
}

function address(hex: string): string {
  const bytes = (word: string) => (word.match(/../g) ?? []).reverse();
  if (hex.length === 8)
    return bytes(hex)
      .map((byte) => Number.parseInt(byte, 16))
      .join('.');
  const all = (hex.match(/.{8}/g) ?? []).flatMap(bytes).join('').toLowerCase();
  if (/^0+$/.test(all)) return '::';
  return /^0{31}1$/.test(all) ? '::1' : (all.match(/.{4}/g) ?? []).join(':');
}

function read(file: string): { socket: TcpSocket; inode: string }[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const field = line.trim().split(/\s+/);
      const [host = '', port = ''] = (field[1] ?? '').split(':');
      const state = field[3] === '0A' ? 'listening' : field[3] === '01' ? 'established' : 'other';
      return {
        socket: { address: address(host), port: Number.parseInt(port, 16), state },
        inode: field[9] ?? '',
      };
    });
}

/** The inodes of all sockets that a process has open. */
function inodesOf(pid: number): Set<string> {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      if (target.startsWith('socket:[')) inodes.add(target.slice(8, -1));
    } catch {
      // Closed meanwhile.
    }
  }
  return inodes;
}

/** The listening TCP sockets that a process has open. */
export function listeners(pid: number): TcpSocket[] {
  const inodes = inodesOf(pid);
  // Of the network that it is in.
  return [...read(`/proc/${pid}/net/tcp`), ...read(`/proc/${pid}/net/tcp6`)]
    .filter(({ socket, inode }) => socket.state === 'listening' && inodes.has(inode))
    .map(({ socket }) => socket);
}

/** The names of the abstract UNIX sockets on which a process listens, without the zero byte. */
export function localListeners(pid: number): string[] {
  const inodes = inodesOf(pid);
  const accepts = 0x10000;
  return readFileSync(`/proc/${pid}/net/unix`, 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , flags = '', , , inode = '', path = '']) => {
      return (Number.parseInt(flags, 16) & accepts) !== 0 && path.startsWith('@') && inodes.has(inode);
    })
    .map(([, , , , , , , path = '']) => path.slice(1));
}

/** A bound socket that does not listen; Node has no public way to one. */
interface Bound {
  bind(host: string, port: number): number;
  bind6(host: string, port: number): number;
  getsockname(into: { port?: number }): number;
  close(): void;
}
type TcpWrap = { TCP: new (kind: number) => Bound; constants: { SERVER: number } };

/**
 * Ports of the kernel's choosing, all different, on which nobody listens. They stay bound until the test
 * ends: with SO_REUSEADDR (libuv's default and our store's) they can be listened on, but the kernel gives
 * them to nobody else.
 */
export async function freePorts(count: number, host = home()): Promise<number[]> {
  const { TCP, constants } = (process as unknown as { binding(name: string): TcpWrap }).binding('tcp_wrap');
  return Array.from({ length: count }, () => {
    const bound = new TCP(constants.SERVER);
    const name: { port?: number } = {};
    const failed = host.includes(':') ? bound.bind6(host, 0) : bound.bind(host, 0);
    if (failed !== 0 || bound.getsockname(name) !== 0) throw new Error(`no free port on ${host}: ${failed}`);
    onTestFinished(() => bound.close());
    return name.port as number;
  });
}

export async function freePort(host?: string): Promise<number> {
  return (await freePorts(1, host))[0] as number;
}

/** Resolves once the server listens. */
export function listen<T extends Server>(server: T, port: number, host = home()): Promise<T> {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(port, host, () => resolve(server));
  });
}
