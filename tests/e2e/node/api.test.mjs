// The official OpenAI package for Node, unmodified, against the local endpoint. Run by test_api_node.py.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';

const model = process.env.COCOON_MODEL;
const client = new OpenAI({
  baseURL: process.env.COCOON_BASE_URL,
  apiKey: 'unused',
  maxRetries: 0,
  timeout: 60_000,
});
const chat = (options = {}) =>
  client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'What is 7 + 8?' }],
    max_tokens: 24,
    temperature: 0,
    ...options,
  });

function checkUsage(usage) {
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.ok(usage.total_cost > 0);
  assert.equal(usage.total_cost, usage.prompt_total_cost + usage.completion_total_cost);
}

async function refused(promise, kind, status, code) {
  const error = await promise.then(
    () => assert.fail('it was answered'),
    (e) => e,
  );
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  assert.equal(error.status, status);
  if (code) assert.equal(error.code, code);
  assert.ok(error.message.length > 10);
}

test('models', async () => {
  const models = await client.models.list();
  assert.deepEqual(models.data.map((m) => m.id), [model]);
});

test('chat', async () => {
  const answer = await chat();
  assert.equal(answer.object, 'chat.completion');
  assert.ok(answer.choices[0].message.content.trim());
  checkUsage(answer.usage);
});

test('chat as a stream', async () => {
  const whole = (await chat()).choices[0].message.content;
  let text = '';
  let chunks = 0;
  for await (const chunk of await chat({ stream: true })) {
    assert.ok(chunk.choices.length > 0, 'a chunk without choices, though no usage was asked for');
    assert.ok(!chunk.usage);
    text += chunk.choices[0].delta.content ?? '';
    chunks += 1;
  }
  assert.ok(chunks > 2);
  assert.equal(text, whole);
});

test('chat as a stream with usage', async () => {
  let usage;
  for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) {
    assert.ok(!usage, 'something came after the usage');
    usage = chunk.usage;
    if (usage) assert.deepEqual(chunk.choices, []);
  }
  checkUsage(usage);
});

test('completions', async () => {
  const answer = await client.completions.create({ model, prompt: '7 + 8 =', max_tokens: 8 });
  assert.equal(answer.object, 'text_completion');
  checkUsage(answer.usage);
});

test('leaving a stream', async () => {
  const stream = await chat({ stream: true, max_tokens: 500 });
  for await (const chunk of stream) {
    assert.ok(chunk.choices);
    break;
  }
  stream.controller.abort();
  assert.ok((await chat({ max_tokens: 1 })).choices[0]);
});

test('errors', async () => {
  await refused(chat({ model: 'no-such-model' }), OpenAI.NotFoundError, 404, 'model_not_found');
  await refused(chat({ temperature: 'hot' }), OpenAI.BadRequestError, 400);
  await refused(chat({ max_tokens: 'many' }), OpenAI.BadRequestError, 400);
  await refused(chat({ max_coefficient: 1 }), OpenAI.APIError, 402, 'price_above_limit');
  await refused(chat({ max_tokens: 9_000_000 }), OpenAI.APIError, 402, 'insufficient_balance');
});

test('an engine that is slow, and one that breaks off', async () => {
  const slow = new OpenAI({ baseURL: process.env.COCOON_SLOW_URL, apiKey: 'unused', maxRetries: 0 });
  const ask = (order, options) =>
    slow.chat.completions.create({
      model: process.env.COCOON_SLOW_MODEL,
      messages: [{ role: 'user', content: JSON.stringify(order) }],
      max_tokens: 50,
      max_coefficient: 5000,
      ...options,
    });
  await refused(ask({ chunks: 100, delay: 0.2 }, { timeout: 0.3 }), OpenAI.InternalServerError, 504, 'timeout');
  await refused(ask({ break_after: 1 }), OpenAI.InternalServerError, 502);
  let seen = 0;
  const stream = await ask({ chunks: 5, delay: 0.02, break_after: 2 }, { stream: true });
  await assert.rejects(async () => {
    for await (const chunk of stream) seen += chunk.choices.length;
  }, OpenAI.APIError);
  assert.equal(seen, 2);
});
