// Leads the calls of Node.js to the extension. The wrapper script has Node.js load it.
//
// Versions since 22.21 and 24.5 read http_proxy themselves (`NODE_USE_ENV_PROXY`), but not for requests with an agent
// that the function has made; older ones do not read it at all. What such a version does itself is left to it.
//
// As it does there: plain http is sent to the proxy with the whole address in the request line, https and `fetch` go
// through a tunnel. Agents with a connection of their own, and whatever no_proxy excepts, stay as they are.
'use strict';

const http = require('http');
const https = require('https');
const net = require('net');
const tls = require('tls');
const { urlToHttpOptions } = require('url');

const DISPATCHER = Symbol.for('undici.globalDispatcher.1');
const CONNECT_TIMEOUT_MS = 10_000;

const originals = { request: http.request, createConnection: https.Agent.prototype.createConnection };
const proxies = {
  'http:': proxyOf(process.env.http_proxy || process.env.HTTP_PROXY),
  'https:': proxyOf(process.env.https_proxy || process.env.HTTPS_PROXY),
};
const excepted = (process.env.no_proxy || process.env.NO_PROXY || '')
  .split(',')
  .map((entry) => entry.trim().toLowerCase())
  .filter(Boolean);

if (process.env.NODE_USE_ENV_PROXY === '1' && (proxies['http:'] || proxies['https:'])) {
  install();
}

// Whether `fetch` and the agents of Node.js itself know the proxy already.
function isBuiltIn() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
}

function install() {
  http.request = function request(...given) {
    return originals.request.apply(this, throughProxy(given));
  };
  http.get = function get(...given) {
    const request = http.request(...given);
    request.end();
    return request;
  };
  https.Agent.prototype.createConnection = function createConnection(options, created) {
    const { host, port } = destination(options, 443);
    const direct = options.socket || options.socketPath || hasProxy(this) || typeof created !== 'function';
    const proxy = direct ? undefined : proxyFor('https:', host, port);
    if (!proxy) {
      return originals.createConnection.apply(this, arguments);
    }
    tunnel(proxy, host, port, (error, socket) => {
      if (error) {
        created(error);
      } else {
        created(null, originals.createConnection.call(this, { ...options, socket }));
      }
    });
    return undefined;
  };
  if (!isBuiltIn() && typeof globalThis.fetch === 'function') {
    const original = globalThis.fetch;
    let ready = false;
    globalThis.fetch = function fetch(...given) {
      if (!ready) {
        ready = true;
        fetchThroughProxy();
      }
      return original.apply(this, given);
    };
  }
  // `import { get } from 'node:http'` has the functions of above, too.
  require('module').syncBuiltinESMExports();
}

// An agent to which Node.js has given the proxy.
function hasProxy(agent) {
  return Boolean(agent && agent.options && agent.options.proxyEnv);
}

function proxyOf(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'http:' ? { host: url.hostname, port: Number(url.port) || 80 } : undefined;
  } catch {
    return undefined;
  }
}

function proxyFor(protocol, host, port) {
  const proxy = proxies[protocol];
  return proxy && !isExcepted(bare(host).toLowerCase(), String(port)) ? proxy : undefined;
}

// Names without and with a leading dot stand for what ends with them, networks for their addresses.
function isExcepted(host, port) {
  return excepted.some((entry) => {
    const withPort = net.isIPv6(entry) ? null : /^(.+):(\d+)$/.exec(entry);
    if (withPort && withPort[2] !== port) {
      return false;
    }
    const name = bare(withPort ? withPort[1] : entry);
    if (name === '*' || name === host) {
      return true;
    }
    const [network, bits] = name.split('/');
    if (bits !== undefined) {
      const known = net.isIPv4(host) && net.isIPv4(network) && /^\d{1,2}$/.test(bits);
      return known && sameNetwork(host, network, Number(bits));
    }
    const end = name.replace(/^\*?\.?/, '');
    return !net.isIP(host) && (host === end || host.endsWith(`.${end}`));
  });
}

function sameNetwork(one, other, bits) {
  const number = (address) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - bits);
  return Math.floor(number(one) / size) === Math.floor(number(other) / size);
}

// Without the brackets of an IPv6 address, which nothing else has.
function bare(host) {
  const within = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : '';
  return net.isIPv6(within) ? within : host;
}

function bracketed(host) {
  return net.isIPv6(host) ? `[${host}]` : host;
}

function destination(options, defaultPort) {
  const host = bare(String(options.hostname || options.host || 'localhost'));
  return { host, port: Number(options.port || options.defaultPort) || defaultPort };
}

// The arguments of http.request, with the proxy in place of the host where there is one.
function throughProxy(given) {
  const { options, callback } = normalized(given);
  if (!options || !isOrdinary(options)) {
    return given;
  }
  const { host, port } = destination(options, 80);
  const proxy = proxyFor('http:', host, port);
  if (!proxy) {
    return given;
  }
  const authority = port === 80 ? bracketed(host) : `${bracketed(host)}:${port}`;
  // The proxy reads the address of the request line; the header is for who looks at the request here.
  const headers = Array.isArray(options.headers) ? options.headers : { Host: authority, ...options.headers };
  const path = `http://${authority}${options.path || '/'}`;
  return [{ ...options, headers, path, host: proxy.host, hostname: proxy.host, port: proxy.port }, callback];
}

// As http.request reads its arguments: (url[, options][, callback]) or (options[, callback]).
function normalized([first, second, third]) {
  let options = first;
  try {
    if (typeof first === 'string') {
      options = urlToHttpOptions(new URL(first));
    } else if (first instanceof URL) {
      options = urlToHttpOptions(first);
    } else {
      return { options, callback: second };
    }
  } catch {
    // Node.js itself says what is wrong with it.
    return {};
  }
  if (typeof second === 'function') {
    return { options, callback: second };
  }
  return { options: { ...options, ...second }, callback: third };
}

function isOrdinary(options) {
  const { agent, path = '/', method = 'GET', protocol = (agent && agent.protocol) || 'http:' } = options;
  const ways = ['addRequest', 'createConnection', 'createSocket'];
  const own = agent && ways.some((way) => agent[way] !== http.Agent.prototype[way]);
  const known = hasProxy(agent === undefined || agent === null ? http.globalAgent : agent);
  const direct = options.socketPath || options.createConnection || own || known;
  return protocol === 'http:' && !direct && String(method).toUpperCase() !== 'CONNECT' && String(path).startsWith('/');
}

function tunnel(proxy, host, port, done) {
  const authority = `${bracketed(host)}:${port}`;
  const headers = { Host: authority };
  const request = originals.request.call(http, { ...proxy, method: 'CONNECT', path: authority, headers, agent: false });
  request.once('connect', (answer, socket, head) => {
    if (answer.statusCode !== 200) {
      socket.destroy();
      const reason = answer.headers['x-causeway-reason'] || 'no reason';
      done(new Error(`the proxy refuses a tunnel to ${authority}: ${answer.statusCode} ${reason}`));
      return;
    }
    if (head.length > 0) {
      socket.unshift(head);
    }
    done(null, socket);
  });
  request.once('error', done);
  request.end();
}

// `fetch` sends through the dispatcher at this symbol, which is made when one of its classes is first looked at. Where
// the function has put its own there, that one stays.
function fetchThroughProxy() {
  void globalThis.Headers;
  const current = globalThis[DISPATCHER];
  if (current && current.constructor.name === 'Agent') {
    globalThis[DISPATCHER] = new current.constructor({ connect });
  }
}

function connect({ hostname, protocol, port, servername }, done) {
  const host = bare(hostname);
  const number = Number(port) || (protocol === 'https:' ? 443 : 80);
  const proxy = proxyFor(protocol, host, number);
  if (proxy) {
    tunnel(proxy, host, number, (error, socket) => (error ? done(error) : open({ socket })));
  } else {
    open({ host, port: number });
  }

  function open(to) {
    const name = servername || (net.isIP(host) ? undefined : host);
    const secure = protocol === 'https:';
    if (!secure && to.socket) {
      done(null, to.socket);
      return;
    }
    const tlsOptions = { ...to, host, servername: name, ALPNProtocols: ['http/1.1'] };
    const socket = secure ? tls.connect(tlsOptions) : net.connect(to);
    const late = setTimeout(() => socket.destroy(new Error(`no connection to ${host} in time`)), CONNECT_TIMEOUT_MS);
    const failed = (error) => {
      clearTimeout(late);
      done(error);
    };
    socket.setNoDelay(true);
    socket.once('error', failed);
    socket.once(secure ? 'secureConnect' : 'connect', () => {
      clearTimeout(late);
      socket.removeListener('error', failed);
      done(null, socket);
    });
  }
}
