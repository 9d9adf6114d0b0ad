'use strict';
// What a worker of mcluster does for its application before that begins: nothing that it would notice.
//
// When the worker is told to go, Node closes connections that wait for a request at once, though one
// may be on its way, and lets busy ones go on for as long as their clients like. Here each is told by
// its next answer (Connection: close), and one that waits is closed when it has waited for a while.
//
// Where clients stay with their workers, answers say whose they are: by a cookie, or by a word to the
// primary about an id that the application has made.
{
  const cluster = require('cluster');
  const take = (name) => {
    const value = process.env[name];
    delete process.env[name];
    return value;
  };
  const hold = Number(take('MCLUSTER_PRELOAD_HOLD') || 0);
  const cookie = take('MCLUSTER_PRELOAD_COOKIE');
  const key = take('MCLUSTER_PRELOAD_QUERY');
  // What the application forks has nothing to do with it, and this file may be gone by then.
  const own = process.execArgv.indexOf(__filename);
  if (own > 0) process.execArgv.splice(own - 1, 2);
  if (cluster.isWorker && process.send) {
    const http = require('http');
    let leaving = false;

    let letGo = () => {};

    // Before Node's own listener, which closes the servers.
    process.prependListener('internalMessage', (message) => {
      if (leaving || !message || message.cmd !== 'NODE_CLUSTER' || message.act !== 'disconnect') return;
      leaving = true;
      letGo();
    });

    const wrap = (prototype, name, around) => {
      const original = prototype[name];
      if (typeof original !== 'function') return;
      const wrapped = function (...args) {
        return around.call(this, original, args);
      };
      Object.defineProperty(wrapped, 'name', { value: name });
      Object.defineProperty(wrapped, 'length', { value: original.length });
      prototype[name] = wrapped;
    };

    const [cookieName, place] = cookie ? cookie.split('=') : [];
    const judged = new WeakMap();

    // Whether an answer is to say whose its client is: to one that has no such cookie, and to one that
    // began its connection by naming a worker that is not there.
    const needsCookie = (request) => {
      const sent = (request.headers.cookie || '').split(';').map((one) => one.trim());
      const found = sent.find((one) => one.startsWith(`${cookieName}=`));
      if (found === undefined) return true;
      const named = /^"?(w[1-9][0-9]{0,3})(?:[.~"-]|$)/.exec(found.slice(cookieName.length + 1));
      const strayed = judged.get(request.socket);
      return Boolean(strayed && named && named[1] !== place);
    };

    // Of a connection its first request counts, by which it was dealt.
    const judge = (request) => {
      if (judged.has(request.socket)) return;
      judged.set(request.socket, true);
      judged.set(request.socket, needsCookie(request));
    };

    const isShared = (value) => /(?:^|[\s,])(?:public|s-maxage)(?:$|[\s,=])/i.test(String(value));

    const setsCookie = (value) => [].concat(value || []).some((one) => String(one).startsWith(`${cookieName}=`));

    const cookieFor = (request) => {
      const mine = require('crypto').randomBytes(4).toString('hex');
      const secure = Boolean(request.socket.encrypted) || /^__(?:Host|Secure)-/i.test(cookieName);
      return `${cookie}.${mine}; Path=/; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
    };

    // Which of the arguments of writeHead has the headers, by the order that Node looks for them in.
    const headersOf = (args) => (args[2] === undefined && typeof args[1] !== 'string' ? 1 : 2);

    // They may be an object, names and values in turn, or pairs.
    const pairsOf = (headers) => {
      if (!headers || typeof headers !== 'object') return [];
      if (!Array.isArray(headers)) return Object.entries(headers);
      if (Array.isArray(headers[0])) return headers;
      const pairs = [];
      for (let at = 0; at + 1 < headers.length; at += 2) pairs.push([headers[at], headers[at + 1]]);
      return pairs;
    };

    const isNamed = (name) => ([one]) => String(one).toLowerCase() === name;

    // What an answer is about to say under a name in small letters.
    const headerOf = (response, args, name) => {
      const found = pairsOf(args[headersOf(args)]).filter(isNamed(name));
      return found.length > 0 ? found.flatMap(([, value]) => value) : response.getHeader(name);
    };

    // Has it say something else there, in the way in which its headers come.
    const setHeader = (response, args, name, value) => {
      const at = headersOf(args);
      const headers = args[at];
      if (!headers || typeof headers !== 'object') {
        response.setHeader(name, value);
        return;
      }
      const is = isNamed(name.toLowerCase());
      const pairs = pairsOf(headers).filter((pair) => !is(pair));
      pairs.push([name, value]);
      if (!Array.isArray(headers)) args[at] = Object.fromEntries(pairs);
      else args[at] = Array.isArray(headers[0]) ? pairs : pairs.flatMap(([one, two]) => [one, two]);
    };

    const addCookie = (response, args) => {
      const before = headerOf(response, args, 'set-cookie');
      if (setsCookie(before) || isShared(headerOf(response, args, 'cache-control') || '')) return;
      setHeader(response, args, 'Set-Cookie', [].concat(before || [], cookieFor(response.req)));
    };

    wrap(http.ServerResponse.prototype, 'writeHead', function (original, args) {
      try {
        if (!this.headersSent && args[0] !== 101) {
          if (leaving && hold > 0) {
            this.shouldKeepAlive = false;
            if (headerOf(this, args, 'connection') !== undefined) setHeader(this, args, 'Connection', 'close');
          }
          if (cookie && this.req) {
            judge(this.req);
            if (needsCookie(this.req)) addCookie(this, args);
          }
        }
      } catch (error) {
        // The application's own answer is what counts.
      }
      return original.apply(this, args);
    });

    if (hold > 0) {
      // When an answer has last left a connection to wait that was not told of its end: one that had
      // begun before.
      let left = 0;
      wrap(http.ServerResponse.prototype, 'detachSocket', function (original, args) {
        if (leaving && this.shouldKeepAlive) left = Date.now();
        return original.apply(this, args);
      });
      const closing = new WeakSet();
      const gently = (prototype) => {
        const closeIdle = prototype.closeIdleConnections;
        if (typeof closeIdle !== 'function') return;
        wrap(prototype, 'closeIdleConnections', function (original, args) {
          if (!leaving || !closing.has(this)) return original.apply(this, args);
        });
        wrap(prototype, 'close', function (original, args) {
          if (leaving && !closing.has(this)) {
            closing.add(this);
            let timer;
            const again = (time) => {
              timer = setTimeout(() => {
                const rest = left + hold - Date.now();
                if (rest <= 0) closeIdle.call(this);
                again(rest > 0 ? rest : hold);
              }, time);
              timer.unref();
            };
            again(hold);
            this.once('close', () => clearTimeout(timer));
          }
          return original.apply(this, args);
        });
      };
      letGo = () => {
        gently(http.Server.prototype);
        // TLS takes memory: it is not loaded for this alone.
        const loaded = process.moduleLoadList;
        if (loaded && !loaded.includes('NativeModule https')) return;
        try {
          gently(require('https').Server.prototype);
        } catch (error) {
          // This Node has no TLS.
        }
      };
    }

    if (key) {
      const quoted = key.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      const inQuery = new RegExp(`[?&]${quoted}=`);
      const inBody = new RegExp(`"${quoted}"\\s*:\\s*"([^"\\\\]{1,256})"`);
      const looked = new WeakSet();
      const look = (response, chunk) => {
        if (looked.has(response)) return;
        looked.add(response);
        const request = response.req;
        if (!request || typeof request.url !== 'string' || inQuery.test(request.url)) return;
        let text;
        if (typeof chunk === 'string') text = chunk.slice(0, 1024);
        else if (chunk instanceof Uint8Array) text = Buffer.from(chunk.buffer, chunk.byteOffset, Math.min(chunk.byteLength, 1024)).toString('latin1');
        const found = text && inBody.exec(text);
        // Before the answer: its client may ask again at once.
        if (found && process.connected) process.send({ cmd: 'NODE_MCLUSTER', act: 'mine', value: found[1] });
      };
      for (const name of ['write', 'end']) {
        wrap(http.ServerResponse.prototype, name, function (original, args) {
          try {
            if (args.length > 0 && args[0] !== null && typeof args[0] !== 'function') look(this, args[0]);
          } catch (error) {
            // The application's own answer is what counts.
          }
          return original.apply(this, args);
        });
      }
    }
  }
}
