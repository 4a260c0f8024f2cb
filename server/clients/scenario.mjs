// Clients that Guidon did not write, against a real server and against a relay of
// a relay of it: URL and ADMIN_KEY are those of a `guidon dev`, GUIDON its
// binary, FLAGD an address without a key.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';

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

cli(['import', '--environment', environment, '-'], JSON.stringify({ flags: scenarios.flags }));
for (const key of Object.keys(scenarios.flags)) {
  if (!scenarios.hidden.includes(key)) cli(['flag', 'set', key, '--client-visible', '--environment', environment]);
}
const serverKey = keyOf('--kind', 'server');
const clientKey = keyOf('--kind', 'client', '--origin', '*');
const relayKey = keyOf('--kind', 'relay');

// relay runs a relay until it is killed or the tests end.
async function relay(upstream, listen = '127.0.0.1:0') {
  const args = ['relay', '--upstream', upstream, '--key', relayKey, '--listen', listen, '--flagd-ports', '0', '--open-environment', environment];
  const child = spawn(guidon, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  process.on('exit', () => child.kill('SIGKILL'));
  const found = {};
  for await (const line of createInterface({ input: child.stderr })) {
    const said = JSON.parse(line);
    if (said.msg === 'relaying') found.url = said.url;
    if (said.msg === "serving flagd's clients") found.flagd = said.address;
    if (found.url && found.flagd) break;
  }
  assert.ok(found.flagd, `the relay of ${upstream} ended before it served`);
  child.stderr.resume();
  const kill = () => new Promise((resolve) => { child.on('exit', resolve); child.kill('SIGKILL'); });
  return { ...found, kill };
}

const near = await relay(url);
const far = await relay(near.url);
const targets = {
  server: { url, flagd },
  'relay of a relay': { url: far.url, flagd: far.flagd },
};

const ask = (at, path, body, headers) =>
  fetch(`${at}${path}`, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json', ...headers } });
const bearer = (key) => ({ Authorization: `Bearer ${key}` });

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

// What a relay serves it has to have heard of: keys last.
for (const key of [serverKey, clientKey]) {
  await eventually('the relays know the keys', async () => (await ask(far.url, '/ofrep/v1/evaluate/flags/clients.plain', {}, bearer(key))).status === 200);
}

const hostOf = (address) => ({ host: address.split(':')[0], port: Number(address.split(':')[1]) });
const retries = { deadlineMs: 10_000, retryBackoffMs: 50, retryBackoffMaxMs: 200 };

// Each is a provider of a target, or of the way to it that at says: a port.
const servers = {
  'flagd rpc': (target, at) => new FlagdProvider({ ...hostOf(target.flagd), ...at, ...retries, cache: 'lru' }),
  'flagd in-process': (target, at) => new FlagdProvider({ ...hostOf(target.flagd), ...at, ...retries, resolverType: 'in-process' }),
  ofrep: (target, at) => new OFREPProvider({ baseUrl: at ? `http://127.0.0.1:${at.port}` : target.url, headers: bearer(serverKey) }),
};
const webs = {
  'ofrep-web': (target, at) =>
    new OFREPWebProvider({ baseUrl: at ? `http://127.0.0.1:${at.port}` : target.url, headers: Object.entries(bearer(clientKey)), cacheMode: 'disabled' }),
  'flagd-web': (target, at) => new FlagdWebProvider({ ...hostOf(target.flagd), ...at, tls: false, maxDelay: 200 }),
};

for (const [where, target] of Object.entries(targets)) {
  for (const [name, provider] of Object.entries(servers)) {
    test(`${name}, ${where}: values, variants, reasons, errors`, async () => {
      const domain = `${name} ${where}`;
      await OpenFeature.setProviderAndWait(domain, provider(target));
      const client = OpenFeature.getClient(domain);
      for (const c of scenarios.cases) compare(name, c, await details[c.type](client, c));
    });
  }

  for (const name of ['flagd rpc', 'flagd in-process']) {
    test(`${name}, ${where}: a change, and a cut`, async () => {
      const way = await proxy(target.flagd);
      const domain = `${name} ${where} cut`;
      setDefault('one');
      await OpenFeature.setProviderAndWait(domain, servers[name](target, { port: way.port }));
      const client = OpenFeature.getClient(domain);
      const value = () => client.getStringValue('clients.switch', '?', {});
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

  test(`ofrep, ${where}: a change, and a cut`, async () => {
    const way = await proxy(target.url.replace('http://', ''));
    const domain = `ofrep ${where} cut`;
    await OpenFeature.setProviderAndWait(domain, servers.ofrep(target, { port: way.port }));
    const client = OpenFeature.getClient(domain);
    const value = () => client.getStringValue('clients.switch', '?', {});
    setDefault('one');
    await eventually('the first value is there', async () => (await value()) === 'one');
    way.cut();
    assert.equal((await client.getStringDetails('clients.switch', '?', {})).value, '?');
    setDefault('two');
    await way.restore();
    await eventually('the change is there', async () => (await value()) === 'two');
  });

  // The snippet of sdk/propagate/LANGUAGES.md.
  test(`ofrep, ${where}: at the pin of a request`, async () => {
    const requests = new AsyncLocalStorage();
    const pin = () => requests.getStore() ?? {};
    const domain = `ofrep ${where} pinned`;
    await OpenFeature.setProviderAndWait(
      domain,
      new OFREPProvider({ baseUrl: target.url, headersFactory: () => Object.entries({ ...bearer(serverKey), ...pin() }) }),
    );
    const client = OpenFeature.getClient(domain);
    const details = () => client.getStringDetails('clients.switch', '?', {});
    const newest = async () => (await details()).value;
    setDefault('one');
    await eventually('the first value is there', async () => (await newest()) === 'one');
    const { header, revision } = await (await ask(url, '/guidon/v1/state', { targetingKey: 'ada' }, bearer(serverKey))).json();
    for (const variant of ['two', 'three', 'two']) {
      setDefault(variant);
      await eventually('the change is there', async () => (await newest()) === variant);
      const pinned = await requests.run({ guidon: header }, details);
      assert.deepEqual([pinned.value, pinned.flagMetadata.pinnedRevision], ['one', revision]);
    }
  });

  for (const [name, provider] of Object.entries(webs)) {
    test(`${name}, ${where}: values, variants, reasons, errors`, async () => {
      const domain = `${name} ${where}`;
      await Web.setProviderAndWait(domain, provider(target));
      const client = Web.getClient(domain);
      for (const c of scenarios.cases) {
        await Web.setContext(domain, c.context);
        compare(name, c, details[c.type](client, c));
      }
      const hidden = client.getBooleanDetails(scenarios.hidden[0], false);
      assert.equal(hidden.value, name !== 'ofrep-web', `${name}: a client key sees ${JSON.stringify(hidden)}`);
    });

    test(`${name}, ${where}: a change, and a cut`, async () => {
      const way = await proxy(name === 'ofrep-web' ? target.url.replace('http://', '') : target.flagd);
      const domain = `${name} ${where} cut`;
      setDefault('one');
      await Web.setProviderAndWait(domain, provider(target, { port: way.port }));
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

  test(`ofrep-web, ${where}: another context is another answer, by ETag`, async () => {
    const bulk = (context, tag) => ask(target.url, '/ofrep/v1/evaluate/flags', { context }, { ...bearer(clientKey), ...(tag && { 'If-None-Match': tag }) });
    const first = await bulk({ targetingKey: 'ada', plan: 'pro' });
    const tag = first.headers.get('etag');
    assert.equal((await bulk({ plan: 'pro', targetingKey: 'ada' }, tag)).status, 304);
    assert.equal((await bulk({ plan: 'free', targetingKey: 'ada' }, tag)).status, 200);
  });
}

test('a relay outlives its upstream, and hears what it missed', async () => {
  const clients = {};
  const connect = async (name, when) => {
    const domain = `${name} ${when}`;
    await OpenFeature.setProviderAndWait(domain, servers[name](targets['relay of a relay']));
    clients[domain] = OpenFeature.getClient(domain);
  };
  const all = (want) => async () =>
    (await Promise.all(Object.values(clients).map((c) => c.getStringValue('clients.switch', '?', {})))).every((v) => v === want);
  for (const name of Object.keys(servers)) await connect(name, 'before the loss');
  setDefault('one');
  await eventually('all have the first value', all('one'));
  await near.kill();
  setDefault('two');
  for (const name of Object.keys(servers)) await connect(name, 'after the loss');
  assert.ok(await all('one')(), 'while the upstream is lost, the relay serves what it has');
  await relay(url, near.url.replace('http://', ''));
  await eventually('all have what they missed', all('two'));
});

after(async () => {
  await OpenFeature.close();
  await Web.close();
  setTimeout(() => process.exit(), 500).unref(); // a provider may hold a timer
});
