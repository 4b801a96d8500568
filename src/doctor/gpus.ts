/** Drivers, devices, and the libraries of collectives; nothing is used, only looked for. */
import type { DeviceProbe, DriverProbe, LibraryProbe } from '../native/binding.ts';
import { amount } from './files.ts';
import { type Finding, ok, warning } from './finding.ts';

/** Whether the kernel shows a device of this maker, whatever the driver's library says. */
export interface DeviceFiles {
  nvidia: boolean;
  amd: boolean;
}

export function gpus(probe: DeviceProbe, files: DeviceFiles, env: NodeJS.ProcessEnv): Finding[] {
  const named = namedForBoth(probe);
  const of = (name: string) => (named === undefined || named.is === name ? undefined : named);
  const { cuda, hip } = probe;
  const driverFindings = (
    name: string,
    driver: DriverProbe,
    there: boolean,
    variable: string,
    other: boolean,
  ) => (other && !usable(driver) ? unneeded(name, driver) : drivers(name, driver, there, [env, variable]));
  return [
    driverFindings('CUDA', cuda, files.nvidia, 'CUDA_VISIBLE_DEVICES', usable(hip)),
    ...maker('CUDA', 'NCCL', cuda, probe.nccl, of('NCCL')),
    driverFindings('HIP', hip, files.amd, 'HIP_VISIBLE_DEVICES', usable(cuda)),
    ...maker('HIP', 'RCCL', hip, probe.rccl, of('RCCL')),
  ];
}

/** How many devices a group can be formed on: of CUDA or else of HIP, where the library for them is there. */
export function usableDevices({ cuda, hip, nccl, rccl }: DeviceProbe): number {
  const [driver, library] = usable(cuda) ? [cuda, nccl] : [hip, rccl];
  return usable(driver) && library.loaded && library.error === undefined ? driver.devices.length : 0;
}

const usable = (driver: DriverProbe) => driver.error === undefined && driver.devices.length > 0;

/** A file that a variable names is loaded as whichever of the two is needed. */
interface Named {
  variable: string;
  is: 'NCCL' | 'RCCL';
}

/** Which of the two it is taken for: the one whose devices are there, or else by its name. */
function namedForBoth({ cuda, hip, nccl, rccl }: DeviceProbe): Named | undefined {
  const { path, source } = nccl;
  if (path === undefined || source === undefined || rccl.path !== path) return undefined;
  if (usable(cuda) && usable(hip)) return undefined;
  if (usable(cuda) || usable(hip)) return { variable: source, is: usable(cuda) ? 'NCCL' : 'RCCL' };
  return { variable: source, is: /rccl[^/]*$/.test(path) ? 'RCCL' : 'NCCL' };
}

type Hiding = readonly [env: NodeJS.ProcessEnv, variable: string];

function maker(
  driverName: string,
  libraryName: string,
  driver: DriverProbe,
  library: LibraryProbe,
  other: Named | undefined,
): Finding[] {
  const there = usable(driver);
  return [
    ...(there ? [devices(driverName, driver), ...peers(driver)] : []),
    other === undefined
      ? libraryFinding(libraryName, library, there)
      : ok(libraryName, `not needed; the file that ${other.variable} names is taken for ${other.is}`, {
          ...library,
        }),
  ];
}

function where({ path, version, source }: LibraryProbe): string {
  return `${version ?? 'version unknown'}, ${path} (${source})`;
}

function tried({ attempts }: LibraryProbe): string {
  const lines = attempts.map(({ path, source, reason }) => `${path} (${source}): ${reason}`);
  return lines.length === 0 ? '' : `\n${lines.join('\n')}`;
}

/** Of a maker whose devices are not here, while the other's are: its library may lie about all the same. */
function unneeded(name: string, driver: DriverProbe): Finding {
  const why = driver.loaded ? `${where(driver)}: ${driver.error ?? 'no device'}` : 'none';
  return ok(`${name} driver`, `${why}; not needed, there are devices of another kind`, { ...driver });
}

/** Groups fall back to Gloo only where no device is visible. */
const untilThen = "until then groups on these devices fail; backend: 'gloo' does without them";

function drivers(name: string, driver: DriverProbe, hasFiles: boolean, [env, variable]: Hiding): Finding {
  const subject = `${name} driver`;
  const facts = { ...driver };
  if (!driver.loaded) {
    if (!hasFiles) return ok(subject, 'none, and no such device here', facts);
    return warning(
      subject,
      `the kernel shows a device, but the driver's library was not found:${tried(driver)}`,
      'in a container, start it with its GPU runtime (`--gpus all`, `--device=/dev/kfd --device=/dev/dri`)',
      facts,
    );
  }
  if (driver.error !== undefined) {
    const advice = `correct what it says; ${untilThen}`;
    return warning(subject, `${where(driver)}: ${driver.error}`, advice, facts);
  }
  if (driver.devices.length === 0) {
    const hidden = env[variable] !== undefined;
    return warning(
      subject,
      `${where(driver)}: no device${hidden ? `, with ${variable}='${env[variable]}'` : ''}`,
      hidden ? `unset ${variable}, or name devices that are there` : 'check the driver, e.g. by nvidia-smi',
      facts,
    );
  }
  return ok(subject, where(driver), facts);
}

function devices(name: string, driver: DriverProbe): Finding {
  const lines = driver.devices.map(
    ({ index, name: model, uuid, busId, memoryBytes }) =>
      `${index}  ${model}, ${amount(memoryBytes)}, ${busId}${uuid === '' ? '' : `, ${uuid}`}`,
  );
  return ok(`${name} devices`, lines.join('\n'), { devices: driver.devices });
}

/** Pairs of devices that cannot reach each other's memory go through the host's. */
function peers({ devices: all, peers: matrix }: DriverProbe): Finding[] {
  if (all.length < 2) return [];
  const apart = all.flatMap((_, a) =>
    all.flatMap((_, b) => (a < b && !(matrix[a]?.[b] && matrix[b]?.[a]) ? [`${a}-${b}`] : [])),
  );
  if (apart.length === 0) return [ok('peer access', 'between all devices', { matrix })];
  const pairs =
    apart.length > 12 ? `${apart.slice(0, 12).join(' ')} and ${apart.length - 12} more` : apart.join(' ');
  return [
    warning(
      'peer access',
      `not between ${pairs}`,
      'these pairs exchange through host memory: put ranks of one group on devices that reach each other',
      { matrix },
    ),
  ];
}

function libraryFinding(name: string, library: LibraryProbe, deviceThere: boolean): Finding {
  const facts = { ...library };
  if (library.loaded && library.error === undefined)
    return ok(name, `${where(library)}${deviceThere ? '' : '; of no use without a device'}`, facts);
  const text = library.error ?? 'not found';
  if (!deviceThere)
    return ok(name, library.loaded ? text : 'not found, and not needed without a device', facts);
  const advice = `install ${name}, or name its file in NODE_COLLECTIVES_NCCL_PATH; ${untilThen}`;
  return warning(name, text, advice, facts);
}
