// Compiles src/*.tolk and examples/*.tolk into build/*.boc with the pinned compiler, or with --check verifies that the committed
// files are what the sources give.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const CONTRACTS = [
  ['CocoonRoot', 'root'],
  ['CocoonProxy', 'proxy'],
  ['CocoonClient', 'client'],
  ['CocoonWorker', 'worker'],
  ['CocoonWallet', 'wallet'],
];
// No part of the network: what its users may start from.
const EXAMPLES = [['ExampleMultisig', 'multisig']];
const COMPILER = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')).dependencies['@ton/tolk-js'];
const OPTIMISATION = 2;

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const fail = (text) => {
  console.error(text);
  process.exit(1);
};

const tolk = await import('@ton/tolk-js').catch(() =>
  fail('@ton/tolk-js is not installed; run `npm ci` in contracts/ first'),
);
const version = await tolk.getTolkCompilerVersion();
if (version !== COMPILER) {
  fail(`compiler version ${version} is installed, package.json pins ${COMPILER}; run \`npm ci\` in contracts/`);
}

async function compile([name, source], folder) {
  const result = await tolk.runTolkCompiler({
    entrypointFileName: `${source}.tolk`,
    fsReadCallback: (path) => readFileSync(join(here, folder, path), 'utf8'),
    optimizationLevel: OPTIMISATION,
  });
  if (result.status !== 'ok') {
    fail(`${source}.tolk does not compile:\n${result.message}`);
  }
  if (result.stderr) {
    console.error(result.stderr);
  }
  const boc = Buffer.from(result.codeBoc64, 'base64');
  const sources = result.sourcesSnapshot
    .filter(({ filename }) => !filename.startsWith('@stdlib/'))
    .map(({ filename }) => filename)
    .sort();
  const text = sources.map((file) => `${file}\n${readFileSync(join(here, folder, file), 'utf8')}`).join('\n');
  return {
    boc,
    fift: result.fiftCode,
    entry: {
      name,
      file: `${name}.boc`,
      code_hash: result.codeHashHex.toLowerCase(),
      boc_bytes: boc.length,
      boc_sha256: sha256(boc),
      sources,
      source_sha256: sha256(text),
    },
  };
}

const contracts = [];
for (const contract of CONTRACTS) {
  contracts.push(await compile(contract, 'src'));
}
const examples = [];
for (const example of EXAMPLES) {
  examples.push(await compile(example, 'examples'));
}
const built = [...contracts, ...examples];
const manifest = {
  compiler: `@ton/tolk-js ${version}`,
  optimisation: OPTIMISATION,
  contracts: contracts.map(({ entry }) => entry),
  examples: examples.map(({ entry }) => entry),
};
const manifestText = `${JSON.stringify(manifest, null, 2)}\n`;
const manifestPath = join(here, 'build', 'manifest.json');

if (process.argv.includes('--check')) {
  const problems = [];
  const readme = readFileSync(join(here, 'README.md'), 'utf8');
  const written = JSON.parse(readFileSync(manifestPath, 'utf8'));
  const committed = new Map([...written.contracts, ...(written.examples ?? [])].map((c) => [c.name, c]));
  for (const { boc, entry } of built) {
    const old = committed.get(entry.name);
    if (old?.code_hash !== entry.code_hash) {
      problems.push(`${entry.name}: sources give code hash ${entry.code_hash}, the manifest says ${old?.code_hash}`);
    }
    if (!readFileSync(join(here, 'build', entry.file)).equals(boc)) {
      problems.push(`${entry.file}: differs from what the sources give`);
    }
    const row = `| ${entry.name} | \`${entry.code_hash}\` | ${entry.boc_bytes} |`;
    if (!readme.includes(row)) {
      problems.push(`README.md lacks the row: ${row}`);
    }
  }
  if (problems.length === 0 && readFileSync(manifestPath, 'utf8') !== manifestText) {
    problems.push('manifest.json: a source, a size or the compiler changed without a change of code');
  }
  if (problems.length > 0) {
    fail(`${problems.join('\n')}\nRun \`node build.mjs\` in contracts/ and commit build/.`);
  }
  console.log('contracts/build is what the sources give');
} else {
  mkdirSync(join(here, 'build'), { recursive: true });
  for (const { boc, entry, fift } of built) {
    writeFileSync(join(here, 'build', entry.file), boc);
    if (process.argv.includes('--fift')) {
      writeFileSync(join(here, 'build', `${entry.name}.fif`), fift);
    }
    console.log(`${entry.name.padEnd(14)} ${entry.code_hash} ${entry.boc_bytes} bytes`);
  }
  writeFileSync(manifestPath, manifestText);
}
