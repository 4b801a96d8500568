/** Node, the addon, and what the addon stands on. */
import { CollectivesError } from '../errors.ts';
import { binding } from '../native/binding.ts';
import { glibcVersion } from '../native/load.ts';
import type { Machine } from './files.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

const oldestNode = [20, 19] as const;

export function runtime(on: Machine, versions: Readonly<Record<string, string | undefined>>): Finding[] {
  return [node(versions), libc(), addon(), ...libraries(on)];
}

function node(versions: Readonly<Record<string, string | undefined>>): Finding {
  const subject = 'Node';
  const { bun, deno } = versions;
  const other = bun === undefined ? (deno === undefined ? undefined : `Deno ${deno}`) : `Bun ${bun}`;
  const version = versions['node'] ?? '';
  const facts = { version, platform: process.platform, arch: process.arch, napi: versions['napi'] };
  const text = `${version}, ${process.platform} ${process.arch}, Node-API ${versions['napi']}`;
  if (other !== undefined)
    return warning(
      subject,
      `${other} in place of Node (${text})`,
      'tests run on Node only; report what fails',
      facts,
    );
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]))
    return problem(subject, text, `install Node ${oldestNode.join('.')} or newer`, facts);
  return ok(subject, text, facts);
}

function libc(): Finding {
  const version = glibcVersion();
  if (version !== undefined) return ok('C library', `glibc ${version}`, { glibc: version });
  return warning(
    'C library',
    'not glibc (musl?)',
    'prebuilt addons are for glibc: build from source here, or use a Debian-based image',
  );
}

function addon(): Finding {
  try {
    binding();
    return ok('addon', 'loads');
  } catch (error) {
    if (!(error instanceof CollectivesError)) throw error;
    return problem('addon', error.message, 'docs/building.md says how the addon is found and built');
  }
}

/** What of the addon's files this process has mapped; after addon(). */
function libraries(on: Machine): Finding[] {
  const mapped = new Set(
    (on.read('/proc/self/maps') ?? '').match(/\/\S*\/[^/\s]+\.(?:node|so)[^/\s]*/g) ?? [],
  );
  const file = (pattern: RegExp) => [...mapped].find((path) => pattern.test(path));
  const own = file(/node[-_]collectives[^/]*\.node$/);
  const gloo = file(/libgloo[^/]*\.so/);
  if (own === undefined) return [];
  return [
    ok('addon file', own, { path: own }),
    gloo === undefined
      ? ok('Gloo', 'part of the addon')
      : ok('Gloo', `${gloo}${/libgloo-nc/.test(gloo) ? ' (came with the package)' : ' (the system’s)'}`, {
          path: gloo,
        }),
  ];
}
