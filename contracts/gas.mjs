// Measures the gas of every operation with the compiled contracts and writes gas.json; --check compares instead.
// Uses the emulator of @ton/sandbox (a dev dependency: `npm ci` installs it, `npm ci --omit=dev` does not), its
// built-in configuration (global version 12, 400 nanoTON per gas), and the behaviour cases of the specification,
// which carry the figures of both official builds.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const sandbox = await import('@ton/sandbox').catch(() => {
  console.error('@ton/sandbox is not installed; run `npm ci` in contracts/ (it is needed for measuring only)');
  process.exit(1);
});
const { Address, Cell } = (await import('@ton/core')).default;

const vectors = JSON.parse(readFileSync(join(here, '../crates/devnet/tests/vectors/contracts.json'), 'utf8'));
const cases = new Map(vectors.behaviour.map((one) => [one.name, one]));

// Operation, the case that shows it, and the case of the proxy transaction it causes, if any. The figures of the
// official builds stand here only where the case does not carry them.
const OPERATIONS = [
  ['root.deploy_empty_body', 'root.empty_body', null, [649, 493]],
  ['root.add_worker_type', 'root.add_worker_type', null, [8299, 8667]],
  ['root.del_worker_type', 'root.del_worker_type', null, [7713, 7943]],
  ['root.add_model_type', 'root.add_model_type'],
  ['root.del_model_type', 'root.del_model_type'],
  ['root.add_proxy_type', 'root.add_proxy_type'],
  ['root.del_proxy_type', 'root.del_proxy_type'],
  ['root.register_proxy', 'root.register_proxy', null, [10119, 10257]],
  ['root.update_proxy', 'root.update_proxy', null, [11278, 10472]],
  ['root.unregister_proxy', 'root.unregister_proxy'],
  ['root.change_price', 'root.change_price'],
  ['root.change_params', 'root.change_params'],
  ['root.upgrade_contracts', 'root.upgrade_contracts'],
  ['root.change_owner', 'root.change_owner'],
  ['root.do_not_process', 'root.do_not_process'],
  ['root.upgrade_code', 'root.upgrade'],
  ['root.reset', 'root.reset'],
  ['root.upgrade_full', 'root.upgrade_full'],
  ['proxy.deploy_empty_body', 'proxy.empty_body', null, [649, 741]],
  ['worker.deploy_empty_body', 'worker.empty_body', null, [649, 541]],
  ['client.deploy_empty_body', 'client.empty_body', null, [597, 641]],
  ['client.ext_top_up', 'client.top_up', 'proxy.client_top_up'],
  ['client.change_secret_hash_and_top_up', 'client.secret_and_top_up', 'proxy.client_top_up'],
  ['client.register', 'client.register'],
  ['client.change_secret_hash', 'client.secret'],
  ['client.increase_stake', 'client.increase_stake'],
  ['client.charge_signed', 'client.charge'],
  ['client.withdraw', 'client.withdraw', 'proxy.client_refund_granted'],
  ['client.request_refund_1_info', 'client.request_refund.1_at_stake'],
  ['client.request_refund_2_force', 'client.request_refund.2_due', 'proxy.client_refund_force'],
  ['client.request_refund_1_granted_part', 'client.request_refund.1_above_stake', 'proxy.client_refund_granted'],
  ['client.grant_refund_signed', 'client.grant_refund', 'proxy.client_refund_granted'],
  ['client.do_not_process', 'client.do_not_process', null, [1161, 959]],
  ['worker.register', 'worker.register'],
  ['worker.payout_signed', 'worker.payout', 'proxy.worker_payout'],
  ['worker.last_payout_signed', 'worker.last_payout', 'proxy.worker_payout'],
  ['proxy.payout_request', 'proxy.payout_request'],
  ['proxy.increase_stake', 'proxy.increase_stake'],
  ['proxy.save_state_do_not_process', 'proxy.save_state'],
  ['proxy.save_state_do_not_process_funded', 'proxy.save_state.funded'],
  ['proxy.text_w', 'proxy.text_w'],
  ['proxy.client_request_no_payload', 'proxy.client_notify'],
  ['proxy.client_register', 'proxy.client_register'],
  ['proxy.worker_request_no_payload', 'proxy.worker_notify'],
  ['proxy.close_request_signed', 'proxy.close_signed'],
  ['proxy.top_up_while_closing', 'proxy.client_top_up.closing'],
  ['proxy.close_complete_signed', 'proxy.close_complete'],
  ['proxy.owner_close', 'proxy.owner_close'],
  ['proxy.text_c', 'proxy.text_c'],
  ['wallet.deploy_empty_body', 'wallet.empty_body', null, [767, 541]],
  ['wallet.external_1_msg', 'wallet.external.one'],
  ['wallet.external_4_msgs', 'wallet.external.four'],
  ['wallet.owner_send_message', 'wallet.owner_send_message'],
  ['wallet.receive_excesses', 'wallet.excesses'],
  ['wallet.receive_payout', 'wallet.payout'],
  ['wallet.text_b', 'wallet.text_b'],
  ['wallet.text_u', 'wallet.text_u'],
  ['wallet.text_w', 'wallet.text_w', null, [4400, 3530]],
];

const NAMES = { root: 'CocoonRoot', proxy: 'CocoonProxy', client: 'CocoonClient', worker: 'CocoonWorker', wallet: 'CocoonWallet' };
const code = Object.fromEntries(
  Object.entries(NAMES).map(([name, file]) => [name, Cell.fromBoc(readFileSync(join(here, 'build', `${file}.boc`)))[0]]),
);

// The named case; for the ones the vectors lack, any message of that contract with the body changed.
function find(name) {
  if (cases.has(name)) {
    return cases.get(name);
  }
  const contract = name.split('.')[0];
  const [like] = [...cases.values()].filter((c) => c.contract === contract && c.in.kind === 'internal');
  const body = name.endsWith('.do_not_process') ? cases.get('root.do_not_process').in.body : cases.get('root.empty_body').in.body;
  return { ...like, in: { ...like.in, body } };
}

async function gasOf(one) {
  const chain = await sandbox.Blockchain.create();
  chain.now = one.now;
  const address = Address.parse(one.account.address);
  await chain.setShardAccount(
    address,
    sandbox.createShardAccount({
      address,
      code: code[one.contract],
      data: Cell.fromBase64(one.account.data),
      balance: BigInt(one.account.balance),
      workchain: 0,
    }),
  );
  const body = Cell.fromBase64(one.in.body);
  const info =
    one.in.kind === 'internal'
      ? {
          type: 'internal', ihrDisabled: true, bounce: one.in.bounce, bounced: false, src: Address.parse(one.in.from),
          dest: address, value: { coins: BigInt(one.in.value) }, ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0,
        }
      : { type: 'external-in', dest: address, importFee: 0n };
  const contract = await chain.getContract(address);
  const tx = await contract.receiveMessage({ info, body }, { now: one.now });
  const phase = tx.description.computePhase;
  return phase.type === 'vm' ? Number(phase.gasUsed) : 0;
}

const operations = [];
for (const [op, name, next, figures] of OPERATIONS) {
  const one = find(name);
  let gas;
  try {
    gas = await gasOf(one);
  } catch (error) {
    console.error(`${op}: the emulator failed (${error.message}); left out`);
    continue;
  }
  const official = figures ?? [one.expect.gas_func, one.expect.gas_tolk];
  let trace = gas;
  const officialTrace = [...official];
  if (next) {
    const proxy = find(next);
    trace += await gasOf(proxy);
    officialTrace[0] += proxy.expect.gas_func;
    officialTrace[1] += proxy.expect.gas_tolk;
  }
  operations.push({ op, gas, gas_trace: trace, official_gas: Math.min(...official), official_gas_trace: Math.min(...officialTrace) });
}

const text = `${JSON.stringify({ environment: '@ton/sandbox 0.39.0, built-in configuration, global version 12; official figures: the smaller of FunC and Tolk 1.2.0', operations }, null, 2)}\n`;
const path = join(here, 'gas.json');
let failed = false;
for (const o of operations) {
  if (o.gas > o.official_gas || o.gas_trace > o.official_gas_trace) {
    console.error(`${o.op}: ${o.gas} (trace ${o.gas_trace}) is more than ${o.official_gas} (${o.official_gas_trace})`);
    failed = true;
  }
}
if (process.argv.includes('--check')) {
  if (readFileSync(path, 'utf8') !== text) {
    console.error('gas.json is not what the contracts use; run `node gas.mjs` in contracts/ and commit it');
    failed = true;
  }
} else {
  writeFileSync(path, text);
}
if (process.argv.includes('--table')) {
  console.log('| operation | gas | official | trace | official | saved |\n|---|---|---|---|---|---|');
  for (const o of operations) {
    const saved = o.official_gas_trace === 0 ? '' : `${Math.round(100 - (100 * o.gas_trace) / o.official_gas_trace)} %`;
    console.log(`| ${o.op} | ${o.gas} | ${o.official_gas} | ${o.gas_trace} | ${o.official_gas_trace} | ${saved} |`);
  }
}
process.exit(failed ? 1 : 0);
