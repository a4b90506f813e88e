// Compiles the mutants of mutants.json: the contracts with one fault each, which the tests must notice
// (crates/devnet/tests/contracts). Writes build/mutants.json, or with --check verifies that it is what the sources give.
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const here = dirname(fileURLToPath(import.meta.url));
const COMPILER = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')).dependencies['@ton/tolk-js'];
const OPTIMISATION = 2;                 // as build.mjs
const CONTRACTS = ['root', 'proxy', 'client', 'worker', 'wallet'];
const OUTPUT = join(here, 'build', 'mutants.json');

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

// A mutant has one `find` and `replace` in the file of its contract, or several `edits`, each in a file of its own.
function applyEdits(mutant) {
  const changed = new Map();
  const edits = mutant.edits ?? [mutant];
  for (const { file = `${mutant.contract}.tolk`, find, replace } of edits) {
    const text = changed.get(file) ?? readFileSync(join(here, 'src', file), 'utf8');
    const count = text.split(find).length - 1;
    if (count !== 1) {
      fail(`mutant ${mutant.id}: ${JSON.stringify(find)} occurs ${count} times in src/${file}, it must occur once`);
    }
    changed.set(file, text.replace(find, () => replace));
  }
  return changed;
}

async function compile(contract, changed, name) {
  const result = await tolk.runTolkCompiler({
    entrypointFileName: `${contract}.tolk`,
    fsReadCallback: (path) => changed.get(path) ?? readFileSync(join(here, 'src', path), 'utf8'),
    optimizationLevel: OPTIMISATION,
  });
  if (result.status !== 'ok') {
    fail(`${name} does not compile:\n${result.message}`);
  }
  return { boc: result.codeBoc64, hash: result.codeHashHex.toLowerCase() };
}

// A worker compiles its share and answers with { id, contract, breaks, code_hash, boc } of each.
async function compileAll(mutants) {
  const built = [];
  for (const mutant of mutants) {
    const { id, contract, breaks } = mutant;
    const { boc, hash } = await compile(contract, applyEdits(mutant), `mutant ${id}`);
    built.push({ id, contract, breaks, code_hash: hash, boc });
  }
  return built;
}

function inThread(mutants) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: mutants });
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`a compiling thread ended with code ${code}`)));
  });
}

if (!isMainThread) {
  parentPort.postMessage(await compileAll(workerData));
} else {
  await main().catch((error) => fail(error.message));
}

async function main() {
  const { mutants } = JSON.parse(readFileSync(join(here, 'mutants.json'), 'utf8'));
  const ids = new Set();
  for (const { id, contract, breaks } of mutants) {
    if (ids.has(id) || !CONTRACTS.includes(contract) || !breaks) {
      fail(`mutant ${id}: needs an id of its own, one of ${CONTRACTS} as contract, and a sentence on what breaks`);
    }
    ids.add(id);
  }
  const threads = Math.min(availableParallelism(), 8);
  const shares = Array.from({ length: threads }, (_, n) => mutants.filter((_, index) => index % threads === n));
  const done = new Map((await Promise.all(shares.map(inThread))).flat().map((mutant) => [mutant.id, mutant]));
  const built = mutants.map(({ id }) => done.get(id));

  const seen = new Map();
  for (const contract of CONTRACTS) {
    seen.set((await compile(contract, new Map(), contract)).hash, `the original ${contract}`);
  }
  for (const { id, code_hash } of built) {
    if (seen.has(code_hash)) {
      fail(`mutant ${id} compiles to the same code as ${seen.get(code_hash)}`);
    }
    seen.set(code_hash, id);
  }

  const text = `${JSON.stringify({ compiler: `@ton/tolk-js ${version}`, mutants: built }, null, 1)}\n`;
  if (process.argv.includes('--check')) {
    if (readFileSync(OUTPUT, 'utf8') !== text) {
      fail('build/mutants.json is not what the sources give. Run `node mutants.mjs` in contracts/ and commit build/.');
    }
    console.log(`${built.length} mutants are what the sources give`);
  } else {
    writeFileSync(OUTPUT, text);
    console.log(`${built.length} mutants written`);
  }
}
