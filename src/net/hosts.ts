/**
 * Host names and interfaces. Native code only gets numeric addresses: a resolver may hang, and a thread of
 * ours must not.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { InvalidArgumentError, NetworkError } from '../errors.ts';
import { within } from './within.ts';

/**
 * Numeric addresses of a host, best first. Numeric hosts and `localhost` need no look-up.
 *
 * @throws NetworkError if the name does not resolve.
 */
export async function resolveHost(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  if (host === 'localhost') return ['127.0.0.1', '::1'];
  try {
    const found = await lookup(host, { all: true, order: 'verbatim' });
    return [...new Set(found.map((entry) => entry.address))];
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code ?? 'EAI_FAIL';
    throw new NetworkError(
      `host name '${host}' does not resolve (${errno}); give an address, or add it to DNS`,
      {
        errno,
        address: host,
      },
    );
  }
}

/**
 * resolveHost() within a time limit. A resolver that takes longer than `timeoutMs` is left behind.
 *
 * @throws NetworkError if the name has no address, TimeoutError, AbortedError
 */
export async function resolveWithin(
  op: string,
  host: string,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const late = `${op}: '${host}' was not resolved within ${timeoutMs} ms`;
  return within(op, { timeoutMs, signal }, () => resolveHost(host), late);
}

/** One entry of `GLOO_SOCKET_IFNAME` / `NCCL_SOCKET_IFNAME`: `eth` is a prefix, `=eth0` a whole name. */
function matches(name: string, pattern: string): boolean {
  return pattern.startsWith('=') ? name === pattern.slice(1) : name.startsWith(pattern);
}

/**
 * Addresses of the interfaces that the environment asks for, or none where it does not: `GLOO_SOCKET_IFNAME`,
 * else `NCCL_SOCKET_IFNAME`, in NCCL's form: names are prefixes, `=` makes one exact, a leading `^` excludes
 * the list.
 *
 * @throws InvalidArgumentError if no interface is left, naming those there are.
 */
export function allowedAddresses(
  env: NodeJS.ProcessEnv = process.env,
  interfaces = networkInterfaces(),
): string[] {
  const variable = env['GLOO_SOCKET_IFNAME'] ? 'GLOO_SOCKET_IFNAME' : 'NCCL_SOCKET_IFNAME';
  const value = env[variable]?.trim();
  if (!value) return [];
  const exclude = value.startsWith('^');
  const patterns = (exclude ? value.slice(1) : value)
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  const names = Object.keys(interfaces).filter((name) => patterns.some((p) => matches(name, p)) !== exclude);
  const addresses = names.flatMap((name) =>
    (interfaces[name] ?? []).map((entry) =>
      entry.family === 'IPv6' && entry.scopeid ? `${entry.address}%${name}` : entry.address,
    ),
  );
  if (addresses.length === 0) {
    throw new InvalidArgumentError(
      `${variable}='${value}' leaves no network interface; this host has ${Object.keys(interfaces).join(', ')}`,
    );
  }
  return addresses;
}
