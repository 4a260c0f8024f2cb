// Clients that Guidon did not write, against a real server: URL and ADMIN_KEY
// are those of a `guidon dev`, GUIDON its binary, FLAGD an address without a key.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { after, before, test } from 'node:test';

import { FlagdProvider } from '@openfeature/flagd-provider';
import { FlagdWebProvider } from '@openfeature/flagd-web-provider';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';
import { OpenFeature as Web, ProviderEvents as WebEvents } from '@openfeature/web-sdk';

import { EventSource } from './eventsource.mjs';

globalThis.EventSource ??= EventSource;

const { URL: url, ADMIN_KEY: adminKey, GUIDON: guidon, FLAGD: flagd } = process.env;
const environment = 'development';
const scenarios = JSON.parse(readFileSync(new URL('scenario.json', import.meta.url), 'utf8'));

const cli = (args, input) =>
  execFileSync(guidon, args, { input, encoding: 'utf8', env: { ...process.env, GUIDON_URL: url, GUIDON_KEY: adminKey } });
const keyOf = (...args) => JSON.parse(cli(['key', 'create', '--environment', environment, '--output', 'json', ...args])).text;
const setDefault = (variant) => cli(['flag', 'set-default', 'clients.switch', variant, '--environment', environment]);

let serverKey;
let clientKey;
before(() => {
  cli(['import', '--environment', environment, '-'], JSON.stringify({ flags: scenarios.flags }));
  for (const key of Object.keys(scenarios.flags)) {
    if (!scenarios.hidden.includes(key)) cli(['flag', 'set', key, '--client-visible', '--environment', environment]);
  }
  serverKey = keyOf('--kind', 'server');
  clientKey = keyOf('--kind', 'client', '--origin', '*');
});

// proxy is a way to the server that can be cut.
async function proxy(target) {
  const [host, port] = target.split(':');
  const open = new Set();
  let server;
  const up = (at = 0) =>
    new Promise((resolve) => {
      server = net.createServer((down) => {
        const through = net.connect(Number(port), host);
        for (const [a, b] of [[down, through], [through, down]]) {
          open.add(a);
          a.on('error', () => b.destroy()).on('close', () => { open.delete(a); b.destroy(); }).pipe(b);
        }
      });
      server.listen(at, '127.0.0.1', () => resolve(server.address().port));
    });
  const cut = () => { server.close(); for (const s of open) s.destroy(); };
  const at = await up();
  after(cut);
  return { port: at, cut, restore: () => up(at) };
}

const details = {
  boolean: (client, c) => client.getBooleanDetails(c.key, c.default, c.context),
  string: (client, c) => client.getStringDetails(c.key, c.default, c.context),
  number: (client, c) => client.getNumberDetails(c.key, c.default, c.context),
  object: (client, c) => client.getObjectDetails(c.key, c.default, c.context),
};

function compare(name, c, got) {
  const want = { value: c.value ?? c.default, variant: c.variant, code: c.code };
  const have = { value: JSON.parse(JSON.stringify(got.value)), variant: got.variant || undefined, code: got.errorCode };
  if (c.lenient?.includes(name)) delete want.code, delete have.code;
  assert.deepEqual(have, want, `${name}: ${c.key} for ${JSON.stringify(c.context)}: ${got.errorMessage ?? ''}`);
  if (c.reason && !c.lenient?.includes(name)) assert.equal(got.reason, c.reason, `${name}: reason of ${c.key}`);
  if (!c.code && c.variant && name !== 'flagd-web') assert.equal(got.flagMetadata.flagSetId, 'default', `${name}: flagSetId of ${c.key}`);
}

const once = (client, event, what) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`waited 30 s in vain for ${what}`)), 30_000);
    const handler = (d) => { clearTimeout(late); client.removeHandler(event, handler); resolve(d); };
    client.addHandler(event, handler);
  });

// eventually waits until a client has a value.
async function eventually(what, condition) {
  const end = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `waited 30 s in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const [flagdHost, flagdPort] = flagd.split(':');
const servers = {
  'flagd rpc': (port = flagdPort) =>
    new FlagdProvider({ host: flagdHost, port: Number(port), deadlineMs: 10_000, retryBackoffMs: 50, retryBackoffMaxMs: 200, cache: 'lru' }),
  'flagd in-process': (port = flagdPort) =>
    new FlagdProvider({ host: flagdHost, port: Number(port), resolverType: 'in-process', deadlineMs: 10_000, retryBackoffMs: 50, retryBackoffMaxMs: 200 }),
  ofrep: (port) =>
    new OFREPProvider({ baseUrl: port ? `http://127.0.0.1:${port}` : url, headers: { Authorization: `Bearer ${serverKey}` } }),
};

for (const [name, provider] of Object.entries(servers)) {
  test(`${name}: values, variants, reasons, errors`, async () => {
    await OpenFeature.setProviderAndWait(name, provider());
    const client = OpenFeature.getClient(name);
    for (const c of scenarios.cases) compare(name, c, await details[c.type](client, c));
  });
}

for (const name of ['flagd rpc', 'flagd in-process']) {
  test(`${name}: a change, and a cut`, async () => {
    const way = await proxy(flagd);
    const domain = `${name} cut`;
    await OpenFeature.setProviderAndWait(domain, servers[name](way.port));
    const client = OpenFeature.getClient(domain);
    const value = () => client.getStringValue('clients.switch', '?', {});
    setDefault('one');
    await eventually('the first value is there', async () => (await value()) === 'one');
    const changed = once(client, ProviderEvents.ConfigurationChanged, 'the change');
    setDefault('two');
    await changed;
    await eventually('the change is there', async () => (await value()) === 'two');

    const lost = Promise.race([once(client, ProviderEvents.Stale, 'stale'), once(client, ProviderEvents.Error, 'error')]);
    way.cut();
    await lost;
    setDefault('three');
    await way.restore();
    await eventually('what was missed is there', async () => (await value()) === 'three');
  });
}

test('ofrep: a change, and a cut', async () => {
  const way = await proxy(url.replace('http://', ''));
  await OpenFeature.setProviderAndWait('ofrep cut', servers.ofrep(way.port));
  const client = OpenFeature.getClient('ofrep cut');
  setDefault('one');
  assert.equal(await client.getStringValue('clients.switch', '?', {}), 'one');
  way.cut();
  assert.equal((await client.getStringDetails('clients.switch', '?', {})).value, '?');
  setDefault('two');
  await way.restore();
  assert.equal(await client.getStringValue('clients.switch', '?', {}), 'two');
});

// The snippet of sdk/propagate/LANGUAGES.md.
test('ofrep: at the pin of a request', async () => {
  const requests = new AsyncLocalStorage();
  const pin = () => requests.getStore() ?? {};
  await OpenFeature.setProviderAndWait(
    'ofrep pinned',
    new OFREPProvider({ baseUrl: url, headersFactory: () => Object.entries({ Authorization: `Bearer ${serverKey}`, ...pin() }) }),
  );
  const client = OpenFeature.getClient('ofrep pinned');
  const value = () => client.getStringValue('clients.switch', '?', {});
  setDefault('one');
  const rooted = await fetch(`${url}/guidon/v1/state`, { method: 'POST', headers: { Authorization: `Bearer ${serverKey}` }, body: '{"targetingKey":"ada"}' });
  const { header } = await rooted.json();
  setDefault('two');
  const [here, there] = await Promise.all([requests.run({ guidon: header }, value), value()]);
  assert.deepEqual({ here, there }, { here: 'one', there: 'two' });
});

const webs = {
  'ofrep-web': (port) =>
    new OFREPWebProvider({ baseUrl: port ? `http://127.0.0.1:${port}` : url, headers: [['Authorization', `Bearer ${clientKey}`]], cacheMode: 'disabled' }),
  'flagd-web': (port = flagdPort) =>
    new FlagdWebProvider({ host: flagdHost, port: Number(port), tls: false, maxDelay: 200 }),
};

for (const [name, provider] of Object.entries(webs)) {
  test(`${name}: values, variants, reasons, errors`, async () => {
    await Web.setProviderAndWait(name, provider());
    const client = Web.getClient(name);
    for (const c of scenarios.cases) {
      await Web.setContext(name, c.context);
      compare(name, c, details[c.type](client, c));
    }
    const hidden = client.getBooleanDetails(scenarios.hidden[0], false);
    assert.equal(hidden.value, name !== 'ofrep-web', `${name}: a client key sees ${JSON.stringify(hidden)}`);
  });

  test(`${name}: a change, and a cut`, async () => {
    const way = await proxy(name === 'ofrep-web' ? url.replace('http://', '') : flagd);
    const domain = `${name} cut`;
    setDefault('one');
    await Web.setProviderAndWait(domain, provider(way.port));
    const client = Web.getClient(domain);
    const value = () => client.getStringValue('clients.switch', '?');
    await eventually('the first value is there', () => value() === 'one');
    const changed = once(client, WebEvents.ConfigurationChanged, 'the change');
    setDefault('two');
    await changed;
    await eventually('the change is there', () => value() === 'two');
    way.cut();
    setDefault('three');
    await way.restore();
    await eventually('what was missed is there', () => value() === 'three');
  });
}

test('ofrep-web: another context is another answer, by ETag', async () => {
  const ask = (context, tag) =>
    fetch(`${url}/ofrep/v1/evaluate/flags`, {
      method: 'POST', body: JSON.stringify({ context }),
      headers: { Authorization: `Bearer ${clientKey}`, 'Content-Type': 'application/json', ...(tag && { 'If-None-Match': tag }) },
    });
  const first = await ask({ targetingKey: 'ada', plan: 'pro' });
  const tag = first.headers.get('etag');
  assert.equal((await ask({ plan: 'pro', targetingKey: 'ada' }, tag)).status, 304);
  assert.equal((await ask({ plan: 'free', targetingKey: 'ada' }, tag)).status, 200);
});

after(async () => {
  await OpenFeature.close();
  await Web.close();
  setTimeout(() => process.exit(), 500).unref(); // a provider may hold a timer
});
