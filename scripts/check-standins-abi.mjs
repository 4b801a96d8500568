// `npm run check:standins-abi -- --cuda DIR --nccl DIR --rocm DIR`: compares the declarations of the tests'
// stand-ins with the vendors' real headers (test/fixtures/gpu/check_abi.cpp). Each DIR is an include folder:
// with cuda.h and nvml.h, with nccl.h (may be given several times), with hip/ and rccl/.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildDir, die, root, runAsync, ScriptError } from './lib.mjs';

/** nccl.h includes the CUDA toolkit for a stream's type only. */
const shim = {
  'cuda_runtime.h': 'typedef struct CUstream_st* cudaStream_t;\n#define __CUDA_BF16_TYPES_EXIST__ 1\n',
  'cuda_fp16.h': '',
  'cuda_bf16.h': '',
  'cuda_fp8.h': '',
};

/** Returns a line for each header that was compared; throws where one differs. */
export async function checkStandinsAbi({ cuda, nccl = [], rocm }) {
  const shims = join(buildDir, 'abi-shim');
  mkdirSync(shims, { recursive: true });
  for (const [name, text] of Object.entries(shim)) writeFileSync(join(shims, name), text);
  const hip = ['-D__HIP_PLATFORM_AMD__', '-D__HIP_DISABLE_CPP_FUNCTIONS__', `-I${rocm}`];
  const comparisons = [
    ...(cuda ? [{ header: join(cuda, 'cuda.h'), flags: ['-DNC_CHECK_CUDA', `-I${cuda}`] }] : []),
    ...(cuda ? [{ header: join(cuda, 'nvml.h'), flags: ['-DNC_CHECK_NVML', `-I${cuda}`] }] : []),
    ...nccl.map((dir) => ({
      header: join(dir, 'nccl.h'),
      flags: [`-DNC_CHECK_NCCL=<${join(dir, 'nccl.h')}>`, `-I${shims}`],
    })),
    ...(rocm ? [{ header: join(rocm, 'hip/hip_runtime_api.h'), flags: ['-DNC_CHECK_HIP', ...hip] }] : []),
    ...(rocm
      ? [{ header: join(rocm, 'rccl/rccl.h'), flags: ['-DNC_CHECK_NCCL=<rccl/rccl.h>', ...hip] }]
      : []),
  ];
  if (comparisons.length === 0) throw new ScriptError('No headers given: --cuda, --nccl, --rocm DIR.');
  const source = join(root, 'test/fixtures/gpu/check_abi.cpp');
  for (const { header, flags } of comparisons) {
    if (!existsSync(header)) throw new ScriptError(`There is no ${header}.`);
    const { code, output } = await runAsync(process.env.CXX ?? 'c++', [
      '-std=c++20',
      '-fsyntax-only',
      '-w', // the vendors' headers have warnings of their own
      `-I${join(root, 'test/fixtures/gpu')}`,
      ...flags,
      source,
    ]);
    if (code !== 0) throw new ScriptError(`${header} and the stand-ins differ:\n${output}`);
  }
  return comparisons.map(({ header }) => `${header}: the stand-ins declare the same`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values } = parseArgs({
      options: {
        cuda: { type: 'string' },
        nccl: { type: 'string', multiple: true },
        rocm: { type: 'string' },
      },
    });
    for (const line of await checkStandinsAbi(values)) console.log(line);
  } catch (error) {
    die(error);
  }
}
