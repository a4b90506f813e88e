// Measures the gas of every operation with the compiled contracts, on a chain with a whole network on it, and writes
// gas.json.
//
//   node gas.mjs              measure and write gas.json
//   node gas.mjs --check      fail if gas.json is not what the contracts use, or if a bound below is broken
//   node gas.mjs --table      the table of README.md
//   node gas.mjs --profile OP the VM's log of one operation
//
// Setup as of spec/vectors/contracts-gas.json: @ton/sandbox 0.39.0 (a dev dependency: `npm ci` installs it) with its
// built-in configuration; 8 entries in each registry; price 20, worker fee 19; 0.05 TON for the root, 1 TON to close,
// 0.7 TON otherwise. Gas is that of the first transaction, the trace that of all transactions of our contracts.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const sandbox = await import('@ton/sandbox').catch(() => {
  console.error('@ton/sandbox is not installed; run `npm ci` in contracts/ (it is needed for measuring only)');
  process.exit(1);
});
const { Address, Cell, Dictionary, beginCell, toNano } = (await import('@ton/core')).default;
const { keyPairFromSeed, sign } = (await import('@ton/crypto')).default;

// The smaller of both official builds, gas and trace: spec/contracts.md, section 16.
const OFFICIAL = {
  'root.deploy_empty_body': [493, 493],
  'root.add_worker_type': [8299, 8299],
  'root.del_worker_type': [7713, 7713],
  'root.add_model_type': [8643, 8643],
  'root.del_model_type': [8065, 8065],
  'root.add_proxy_type': [9029, 9029],
  'root.del_proxy_type': [8351, 8351],
  'root.register_proxy': [10119, 10119],
  'root.update_proxy': [10472, 10472],
  'root.unregister_proxy': [9507, 9507],
  'root.change_price': [8373, 8373],
  'root.change_params': [8705, 8705],
  'root.upgrade_contracts': [8705, 8705],
  'root.change_owner': [9312, 9312],
  'root.do_not_process': [1355, 1355],
  'root.upgrade_code': [4896, 4896],
  'root.reset': [9095, 9095],
  'root.upgrade_full': [6427, 6427],
  'proxy.deploy_empty_body': [649, 649],
  'worker.deploy_empty_body': [541, 541],
  'client.deploy_empty_body': [597, 597],
  'client.ext_top_up': [7912, 17869],
  'client.change_secret_hash_and_top_up': [8274, 18231],
  'client.register': [9417, 9417],
  'client.change_secret_hash': [9117, 9117],
  'client.increase_stake': [9293, 9293],
  'client.charge_signed': [11549, 11549],
  'client.withdraw': [9016, 20522],
  'client.request_refund_1_info': [10712, 10712],
  'client.request_refund_2_force': [8962, 20577],
  'client.request_refund_1_granted_part': [10077, 21583],
  'client.grant_refund_signed': [11288, 22794],
  'client.do_not_process': [959, 959],
  'worker.register': [5187, 5187],
  'worker.payout_signed': [7471, 17982],
  'worker.last_payout_signed': [7536, 18047],
  'proxy.payout_request': [6845, 6845],
  'proxy.increase_stake': [5652, 5652],
  'proxy.save_state_do_not_process': [0, 0],
  'proxy.save_state_do_not_process_funded': [1059, 1059],
  'proxy.text_w': [5028, 5028],
  'proxy.client_request_no_payload': [2405, 2405],
  'proxy.client_register': [8084, 8084],
  'proxy.worker_request_no_payload': [2210, 2210],
  'proxy.close_request_signed': [8002, 8002],
  'proxy.top_up_while_closing': [11258, 11258],
  'proxy.close_complete_signed': [7440, 7440],
  'proxy.owner_close': [7361, 7361],
  'proxy.text_c': [6589, 6589],
  'wallet.deploy_empty_body': [541, 541],
  'wallet.external_1_msg': [3445, 3445],
  'wallet.external_4_msgs': [5371, 5371],
  'wallet.owner_send_message': [2069, 2069],
  'wallet.receive_excesses': [860, 860],
  'wallet.receive_payout': [927, 927],
  'wallet.text_b': [2520, 2520],
  'wallet.text_u': [2569, 2569],
  'wallet.text_w': [3530, 3530],
};

// Whose traces must be a quarter below the smaller official one.
const A_QUARTER_LESS = [
  'client.ext_top_up', 'client.change_secret_hash_and_top_up', 'client.charge_signed', 'client.withdraw',
  'client.request_refund_1_info', 'client.request_refund_2_force', 'client.request_refund_1_granted_part',
  'client.grant_refund_signed', 'worker.payout_signed', 'worker.last_payout_signed',
];

// Gas prices in nanoTON: the emulator's configuration, and the main network's in 2026 (4369067 / 65536).
const EMULATOR_PRICE = 400;
const MAINNET_PRICE = 4369067 / 65536;

const NOW = 1_770_000_000;
const DELAY = 86_400;
const PRICE = 20n;
const FEE = 19n;
const STAKE = toNano('1');
const QUERY = 0x1122334455667788n;

const code = Object.fromEntries(
  ['Root', 'Proxy', 'Client', 'Worker', 'Wallet'].map((name) => [
    name.toLowerCase(), Cell.fromBoc(readFileSync(join(here, 'build', `Cocoon${name}.boc`)))[0],
  ]),
);
const sha256 = (text) => createHash('sha256').update(text).digest();
const number = (text) => BigInt(`0x${sha256(text).toString('hex')}`);
const someone = (name) => new Address(0, sha256(`address of ${name}`));
const keys = keyPairFromSeed(sha256('proxy key of the gas measurements'));
const hotKeys = keyPairFromSeed(sha256('wallet key of the gas measurements'));
const rootOwner = someone('root owner');
const proxyOwner = someone('proxy owner');
const clientOwner = someone('client owner');
const workerOwner = someone('worker owner');
const walletOwner = someone('wallet owner');
const receiver = someone('excess receiver');

// --- storage --------------------------------------------------------------------------------------

function params(withProxy, withOthers) {
  const b = beginCell()
    .storeUint(3, 8).storeUint(0, 32).storeUint(17, 32).storeBit(1).storeCoins(PRICE).storeCoins(FEE)
    .storeUint(10_000, 32).storeUint(10_000, 32).storeUint(10_000, 32).storeUint(10_000, 32)
    .storeUint(DELAY, 32).storeUint(DELAY, 32).storeCoins(STAKE).storeCoins(STAKE);
  b.storeMaybeRef(withProxy ? code.proxy : null);
  b.storeMaybeRef(withOthers ? code.worker : null);
  return b.storeMaybeRef(withOthers ? code.client : null).endCell();
}

const NOTHING = { serialize() {}, parse() {} };
const NET = { serialize: (a, b) => b.storeSlice(a.beginParse()), parse: (s) => s };
const netAddress = (text) => beginCell().storeUint(0, 1).storeUint(text.length, 7).storeBuffer(Buffer.from(text)).endCell();

// The shape of a dictionary is most of its price. The official figures follow from those of single entries if the
// ninth hash leaves the root of the tree and the ninth proxy lies two levels down; so do these keys.
const NINTH = (1n << 255n) | number('a new image');

function hashes(more) {
  const all = Dictionary.empty(Dictionary.Keys.BigUint(256), NOTHING);
  for (let i = 1n; i <= 8n; i++) {
    all.set(i, null);
  }
  return more ? all.set(NINTH, null) : all;
}

// With `more`, as they are after the ninth entry has been added.
function rootData(more) {
  const proxies = Dictionary.empty(Dictionary.Keys.Uint(32), NET);
  const last = more ? 9 : 8;
  for (let i = 1; i <= last; i++) {
    proxies.set(i, netAddress(`10.0.0.${i}:8888`));
  }
  const registry = beginCell().storeDict(hashes(more)).storeDict(proxies).storeUint(last, 32)
    .storeDict(hashes(more)).storeDict(hashes(more)).endCell();
  return beginCell().storeAddress(rootOwner).storeUint(8, 32).storeRef(registry).storeRef(params(true, true)).endCell();
}

const root = someone('root');
const proxyData = (state = 0, balance = 0n, stake = 0n, unlock = 0) => beginCell()
  .storeAddress(proxyOwner).storeBuffer(keys.publicKey).storeAddress(root).storeUint(state, 2)
  .storeCoins(balance).storeCoins(stake).storeUint(unlock, 32).storeRef(params(false, true)).endCell();

const addressOf = (codeCell, data) => new Address(
  0, beginCell().storeUint(6, 5).storeRef(codeCell).storeRef(data).endCell().hash(),
);
const proxy = addressOf(code.proxy, proxyData());
const workerData = (state = 0, tokens = 0n) => beginCell()
  .storeAddress(workerOwner).storeAddress(proxy).storeBuffer(keys.publicKey).storeUint(state, 2).storeUint(tokens, 64)
  .storeRef(params(false, false)).endCell();
const clientData = (state = 0, balance = 0n, tokens = 0n, unlock = 0) => beginCell()
  .storeUint(state, 2).storeCoins(balance).storeCoins(STAKE).storeUint(tokens, 64).storeUint(unlock, 32).storeUint(0, 256)
  .storeRef(beginCell().storeAddress(clientOwner).storeAddress(proxy).storeBuffer(keys.publicKey).endCell())
  .storeRef(params(false, false)).endCell();
const worker = addressOf(code.worker, workerData());
const client = addressOf(code.client, clientData());
const walletData = () => beginCell()
  .storeUint(0, 32).storeUint(0, 32).storeBuffer(hotKeys.publicKey).storeUint(0, 32).storeAddress(walletOwner).endCell();
const wallet = addressOf(code.wallet, walletData());
const ours = new Set([root, proxy, client, worker, wallet].map(String));

// --- messages -------------------------------------------------------------------------------------

const op = (opcode) => beginCell().storeUint(opcode, 32).storeUint(QUERY, 64);
const text = (letter) => beginCell().storeUint(0, 32).storeUint(letter.charCodeAt(0), 8);
const toOwner = (opcode) => op(opcode).storeAddress(receiver);

// Total tokens and the address of the contract, signed by the proxy; without tokens for the proxy contract itself.
function signed(opcode, target, tokens) {
  const payload = op(opcode);
  if (tokens !== undefined) {
    payload.storeUint(tokens, 64);
  }
  const cell = payload.storeAddress(target).endCell();
  return toOwner(opcode).storeBuffer(sign(cell.hash(), keys.secretKey)).storeRef(cell);
}

function request(opcode, payload) {
  const state = beginCell().storeUint(0, 2).storeCoins(STAKE).storeCoins(STAKE).storeUint(0, 64).storeUint(0, 256).endCell();
  const body = op(opcode);
  if (opcode === 0x65448ff4) {
    body.storeAddress(clientOwner).storeRef(state);
  } else {
    body.storeAddress(workerOwner).storeUint(0, 2).storeUint(0, 64);
  }
  return body.storeMaybeRef(payload);
}

const order = (opcode, amount) => beginCell().storeUint(opcode, 32).storeCoins(amount).storeAddress(receiver).endCell();

function external(count) {
  const note = beginCell().storeUint(0x10, 6).storeAddress(receiver).storeCoins(toNano('0.1')).storeUint(0, 107).endCell();
  const b = beginCell().storeUint(0, 32).storeUint(NOW + 3600, 32).storeUint(0, 32);
  for (let i = 0; i < count; i++) {
    b.storeUint(1, 8).storeRef(note);
  }
  const part = b.endCell();
  return beginCell().storeBuffer(sign(part.hash(), hotKeys.secretKey)).storeSlice(part.beginParse());
}

// --- the operations -------------------------------------------------------------------------------

const hash = (opcode) => op(opcode).storeUint(NINTH, 256);
const OPERATIONS = {
  'root.deploy_empty_body': { to: root, body: beginCell() },
  'root.add_worker_type': { to: root, body: hash(0xe34b1c60) },
  'root.del_worker_type': { to: root, body: hash(0x8d94a79a), more: true },
  'root.add_model_type': { to: root, body: hash(0xc146134d) },
  'root.del_model_type': { to: root, body: hash(0x92b11c18), more: true },
  'root.add_proxy_type': { to: root, body: hash(0x71860e80) },
  'root.del_proxy_type': { to: root, body: hash(0x3c41d0b2), more: true },
  'root.register_proxy': { to: root, body: op(0x927c7cb5).storeSlice(netAddress('10.0.0.9:8888').beginParse()) },
  'root.update_proxy': {
    to: root, body: op(0x9c7924ba).storeUint(9, 32).storeSlice(netAddress('10.0.0.99:8888').beginParse()), more: true,
  },
  'root.unregister_proxy': { to: root, body: op(0x6d49eaf2).storeUint(9, 32), more: true },
  'root.change_price': { to: root, body: op(0xc52ed8d4).storeCoins(30).storeCoins(25) },
  'root.change_params': {
    to: root, body: op(0x022fa189).storeCoins(30).storeCoins(25).storeUint(600, 32).storeUint(300, 32)
      .storeCoins(toNano('2')).storeCoins(toNano('3')),
  },
  'root.upgrade_contracts': {
    to: root, body: op(0xa2370f61).storeRef(code.proxy).storeRef(code.worker).storeRef(code.client),
  },
  'root.change_owner': { to: root, body: op(0xc4a1ae54).storeAddress(someone('the next owner')) },
  'root.do_not_process': { to: root, body: op(0x9a1247c0) },
  'root.upgrade_code': { to: root, body: op(0x11aefd51).storeRef(code.root) },
  'root.reset': { to: root, body: op(0x563c1d96) },
  'root.upgrade_full': { to: root, body: op(0x4f7c5789).storeRef(rootData(false)).storeRef(code.root) },
  'proxy.deploy_empty_body': { to: proxy, body: beginCell() },
  'worker.deploy_empty_body': { to: worker, body: beginCell() },
  'client.deploy_empty_body': { to: client, body: beginCell() },
  'client.ext_top_up': {
    to: client, from: clientOwner, value: toNano('1.7'), body: op(0xf172e6c2).storeCoins(STAKE).storeAddress(receiver),
  },
  'client.change_secret_hash_and_top_up': {
    to: client, from: clientOwner, value: toNano('1.7'),
    body: op(0x8473b408).storeCoins(STAKE).storeUint(number('secret'), 256).storeAddress(receiver),
  },
  'client.register': { to: client, from: clientOwner, body: op(0xc45f9f3b).storeUint(99, 64).storeAddress(receiver) },
  'client.change_secret_hash': {
    to: client, from: clientOwner, body: op(0xa9357034).storeUint(number('secret'), 256).storeAddress(receiver),
  },
  'client.increase_stake': {
    to: client, from: clientOwner, body: op(0x6a1f6a60).storeCoins(toNano('2')).storeAddress(receiver),
  },
  'client.charge_signed': { to: client, body: signed(0xbb63ff93, client, 1000) },
  'client.withdraw': { to: client, from: clientOwner, body: toOwner(0xda068e78), rich: true },
  'client.request_refund_1_info': { to: client, from: clientOwner, body: toOwner(0xfafa6cc1) },
  'client.request_refund_2_force': { to: client, from: clientOwner, body: toOwner(0xfafa6cc1), closing: true },
  'client.request_refund_1_granted_part': { to: client, from: clientOwner, body: toOwner(0xfafa6cc1), rich: true },
  'client.grant_refund_signed': { to: client, body: signed(0xefd711e1, client, 1000) },
  'client.do_not_process': { to: client, body: op(0x9a1247c0) },
  'worker.register': { to: worker, from: workerOwner, body: toOwner(0x26ed7f65) },
  'worker.payout_signed': { to: worker, body: signed(0xa040ad28, worker, 1_000_000) },
  'worker.last_payout_signed': { to: worker, body: signed(0xf5f26a36, worker, 1_000_000) },
  'proxy.payout_request': { to: proxy, body: toOwner(0x7610e6eb) },
  'proxy.increase_stake': {
    to: proxy, value: toNano('1.7'), body: op(0x9713f187).storeCoins(STAKE).storeAddress(receiver),
  },
  'proxy.save_state_do_not_process': { to: proxy, value: 1n, body: op(0x9a1247c0).storeUint(0x53109c0f, 32) },
  'proxy.save_state_do_not_process_funded': { to: proxy, body: op(0x9a1247c0).storeUint(0x53109c0f, 32) },
  'proxy.text_w': { to: proxy, from: proxyOwner, body: text('w') },
  'proxy.client_request_no_payload': { to: proxy, from: client, body: request(0x65448ff4, null) },
  'proxy.client_register': {
    to: proxy, from: client, body: request(0x65448ff4, beginCell().storeUint(0xa35cb580, 32).storeUint(99, 64).endCell()),
  },
  'proxy.worker_request_no_payload': { to: proxy, from: worker, body: request(0x4d725d2c, null) },
  'proxy.close_request_signed': { to: proxy, value: toNano('1'), body: signed(0x636a4391, proxy) },
  'proxy.top_up_while_closing': {
    to: proxy, from: client, value: toNano('1.7'), body: request(0x65448ff4, order(0x5cfc6b87, STAKE)), proxyClosing: true,
  },
  'proxy.close_complete_signed': { to: proxy, value: toNano('1'), body: signed(0xe511abc7, proxy), proxyClosing: true },
  'proxy.owner_close': { to: proxy, from: proxyOwner, value: toNano('1'), body: toOwner(0xb51d5a01) },
  'proxy.text_c': { to: proxy, from: proxyOwner, value: toNano('1'), body: text('c') },
  'wallet.deploy_empty_body': { to: wallet, body: beginCell() },
  'wallet.external_1_msg': { to: wallet, external: true, body: external(1) },
  'wallet.external_4_msgs': { to: wallet, external: true, body: external(4) },
  'wallet.owner_send_message': {
    to: wallet, from: walletOwner, body: op(0x9c69f376).storeUint(1, 8).storeRef(
      beginCell().storeUint(0x10, 6).storeAddress(receiver).storeCoins(toNano('0.1')).storeUint(0, 107).endCell(),
    ),
  },
  'wallet.receive_excesses': { to: wallet, body: op(0x2565934c) },
  'wallet.receive_payout': { to: wallet, body: op(0xc59a7cd3) },
  'wallet.text_b': { to: wallet, from: walletOwner, body: text('b') },
  'wallet.text_u': { to: wallet, from: walletOwner, body: text('u') },
  // The emulator aborts in the action phase of this one, whatever the code. From a wallet too poor to send anything the
  // same computation ends in an ordinary failure of the action phase.
  'wallet.text_w': { to: wallet, from: walletOwner, body: text('w'), value: toNano('0.005'), empty: true },
};

async function network(one) {
  const chain = await sandbox.Blockchain.create();
  chain.now = NOW;
  const place = (address, codeCell, data, balance) => chain.setShardAccount(
    address, sandbox.createShardAccount({ address, code: codeCell, data, balance: toNano(balance), workchain: 0 }),
  );
  await place(root, code.root, rootData(one.more), '1');
  await place(
    proxy, code.proxy, one.proxyClosing ? proxyData(1, toNano('3'), STAKE, NOW - 1) : proxyData(0, toNano('3'), STAKE), '20',
  );
  await place(worker, code.worker, workerData(), '0.29');
  const deposit = one.rich ? toNano('5') : STAKE;
  await place(client, code.client, one.closing ? clientData(1, deposit, 0n, NOW - 1) : clientData(0, deposit), '0.79');
  await place(wallet, code.wallet, walletData(), one.empty ? '0.001' : '10');
  return chain;
}

async function measure(one, verbosity) {
  const chain = await network(one);
  if (verbosity) {
    chain.verbosity = { print: false, blockchainLogs: false, vmLogs: verbosity, debugLogs: false };
  }
  const body = one.body.asCell();
  const from = one.from ?? (one.to === root ? rootOwner : receiver);
  const value = one.value ?? toNano(one.to === root ? '0.05' : '0.7');
  const info = one.external
    ? { type: 'external-in', dest: one.to, importFee: 0n }
    : {
        type: 'internal', ihrDisabled: true, bounce: true, bounced: false, src: from, dest: one.to, value: { coins: value },
        ihrFee: 0n, forwardFee: 0n, createdLt: 0n, createdAt: 0,
      };
  const { transactions } = await chain.sendMessage({ info, body });
  const used = [];
  let fees = 0n;
  for (const tx of transactions) {
    const account = new Address(0, Buffer.from(tx.address.toString(16).padStart(64, '0'), 'hex'));
    if (!ours.has(String(account))) {
      continue;
    }
    const phase = tx.description.computePhase;
    const failed = tx.description.actionPhase?.success === false && !one.empty;
    if (phase.type === 'vm' && (phase.exitCode !== 0 || failed)) {
      throw new Error(`exit code ${phase.exitCode}, action phase ${tx.description.actionPhase?.resultCode}`);
    }
    used.push(phase.type === 'vm' ? Number(phase.gasUsed) : 0);
    fees += tx.totalFees.coins - (tx.description.storagePhase?.storageFeesCollected ?? 0n);
    for (const message of tx.outMessages.values()) {
      fees += message.info.type === 'internal' ? message.info.forwardFee : 0n;
    }
  }
  return { used, fees, log: transactions[0].vmLogs };
}

const wanted = process.argv.indexOf('--profile');
if (wanted > 0) {
  console.log((await measure(OPERATIONS[process.argv[wanted + 1]], 'vm_logs_gas')).log);
  process.exit(0);
}

const operations = [];
const problems = [];
for (const [name, official] of Object.entries(OFFICIAL)) {
  try {
    const { used, fees } = await measure(OPERATIONS[name]);
    const trace = used.reduce((sum, gas) => sum + gas, 0);
    operations.push({
      op: name, gas: used[0], gas_trace: trace, transactions: used.length, fees_nanoton: Number(fees),
      official_gas: official[0], official_gas_trace: official[1],
    });
    const bound = A_QUARTER_LESS.includes(name) ? Math.floor(official[1] * 0.75) : official[1];
    if (used[0] > official[0] || trace > bound) {
      problems.push(`${name}: ${used[0]} (trace ${trace}) is more than ${official[0]} (${bound})`);
    }
  } catch (error) {
    problems.push(`${name}: ${error.message}`);
  }
}

const json = `${JSON.stringify({
  environment: '@ton/sandbox 0.39.0, its built-in configuration: global version 12, 400 nanoTON per gas',
  setup: '8 entries in each registry; price 20, worker fee 19; 0.05 TON to the root, 1 TON to close, 0.7 TON otherwise',
  units: 'gas units: of the first transaction, and of all transactions of these contracts; fees in nanoTON without storage',
  official: 'the smaller of FunC and Tolk 1.2.0, from spec/vectors/contracts-gas.json',
  operations,
}, null, 2)}\n`;
const path = join(here, 'gas.json');
const ton = (gas, price) => ((gas * price) / 1e9).toFixed(6);
const table = [
  '| operation | gas | official | trace | official | saved | fee, emulator | fee, main network |',
  '|---|---|---|---|---|---|---|---|',
  ...operations.map((o) => {
    const saved = o.official_gas_trace === 0 ? '' : `${Math.floor(100 - (100 * o.gas_trace) / o.official_gas_trace)} %`;
    return `| ${o.op} | ${o.gas} | ${o.official_gas} | ${o.gas_trace} | ${o.official_gas_trace} | ${saved} ` +
      `| ${ton(o.gas_trace, EMULATOR_PRICE)} | ${ton(o.gas_trace, MAINNET_PRICE)} |`;
  }),
].join('\n');
if (process.argv.includes('--check')) {
  if (readFileSync(path, 'utf8') !== json) {
    problems.push('gas.json is not what the contracts use; run `node gas.mjs` in contracts/ and commit it');
  }
  if (!readFileSync(join(here, 'README.md'), 'utf8').includes(table)) {
    problems.push('the table in README.md is not what the contracts use; `node gas.mjs --table` prints it');
  }
} else {
  writeFileSync(path, json);
}
if (process.argv.includes('--table')) {
  console.log(table);
}
for (const problem of problems) {
  console.error(problem);
}
if (process.argv.includes('--check') && problems.length === 0) {
  console.log('gas.json and the table are what the contracts use, within all bounds');
}
process.exit(problems.length > 0 ? 1 : 0);
