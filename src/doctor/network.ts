/** Interfaces, the one that a group would use, and why. */
import { createSocket } from 'node:dgram';
import { isIP } from 'node:net';
import { CollectivesError } from '../errors.ts';
import { allowedAddresses } from '../net/hosts.ts';
import type { Machine } from './files.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

/** @param masterAddr rank 0's address, to which the route is asked for; undefined where nobody has said. */
export async function network(
  on: Machine,
  env: NodeJS.ProcessEnv,
  masterAddr: string | undefined,
): Promise<Finding[]> {
  const interfaces = on.interfaces();
  const list = Object.entries(interfaces).map(([name, addresses]) => ({
    name,
    addresses: (addresses ?? []).map((each) => each.address),
    loopback: (addresses ?? []).every((each) => each.internal),
  }));
  const shown = list.map(({ name, addresses }) => `${name} ${addresses.join(' ')}`).join('; ');
  const findings: Finding[] = [ok('interfaces', shown || 'none', { interfaces: list })];
  if (list.every(({ loopback }) => loopback)) {
    findings.push(
      warning(
        'other hosts',
        'there is loopback only, so ranks of other hosts cannot be reached',
        'in a container, give it a network, or use the host’s',
      ),
    );
  }
  findings.push(await choice(on, env, masterAddr, list));
  return findings;
}

async function choice(
  on: Machine,
  env: NodeJS.ProcessEnv,
  masterAddr: string | undefined,
  list: readonly { name: string; addresses: string[] }[],
): Promise<Finding> {
  const subject = 'chosen';
  let allowed: string[];
  try {
    allowed = allowedAddresses(env);
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return problem(subject, error.message, 'correct GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME');
  }
  const nameOf = (address: string) => list.find(({ addresses }) => addresses.includes(address))?.name ?? '?';
  const target = masterAddr ?? '127.0.0.1';
  let resolved: string | undefined;
  try {
    [resolved] = await on.resolve(target);
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return problem(subject, error.message, 'give rank 0’s address as a number, or correct its name');
  }
  const route = await routeTo(resolved as string);
  if (route === undefined) {
    return problem(
      subject,
      `there is no route from here to ${target}${target === resolved ? '' : ` (${resolved})`}`,
      'correct the address of rank 0, or the network of this host',
    );
  }
  const forced = allowed.length > 0 && !allowed.includes(route);
  const address = forced
    ? (allowed.find((each) => isIP(each) === isIP(route)) ?? (allowed[0] as string))
    : route;
  const why = forced
    ? `GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME asks for it; the route to ${target} would be ${route}`
    : `the route to ${target}${masterAddr === undefined ? ', since no --master-addr was given' : ''}`;
  const facts = { address, interface: nameOf(address), target, route, forced };
  if (/^127\./.test(address) && masterAddr !== undefined && !/^127\.|^localhost$|^::1$/.test(masterAddr)) {
    return warning(
      subject,
      `${nameOf(address)} (${address}): ${target} is this very host under a loopback address`,
      'ranks on other hosts cannot reach it: give the address that they see',
      facts,
    );
  }
  return ok(subject, `${nameOf(address)} (${address}): ${why}`, facts);
}

/** The local address that the kernel would use; nothing is sent. */
function routeTo(address: string): Promise<string | undefined> {
  const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4');
  return new Promise<string | undefined>((resolve) => {
    socket.once('error', () => resolve(undefined));
    socket.connect(9, address, () => resolve(socket.address().address));
  }).finally(() => socket.close());
}
