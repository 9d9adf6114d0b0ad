// What workers do in the scenarios of tests/it/node_cluster.rs and tests/it/node_majors.rs: SCENE names
// one. Each says what it sees, a fact a line; unless it says otherwise, a worker goes on to serve its pid.
'use strict'
const cluster = require('node:cluster')
const dgram = require('node:dgram')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')

const me = cluster.worker
const { HOST, PORT, PATH_OF_SOCKET, SCENE } = process.env
const say = (...words) => console.log(words.map(String).join(' '))
const failed = (error) => [error.code, error.syscall, error.address, error.port].join(' ')

// A server that says who answers, and where it is.
function serve (where = { port: 0 }, what = 'listening on port') {
  const server = http.createServer((req, res) => res.end(String(process.pid)))
  server.on('error', (error) => say('error', failed(error)))
  server.listen(where, () => {
    const address = server.address()
    say(what, address?.port ?? address)
  })
  return server
}

// Says each of these events of the process and of the worker.
function events (...names) {
  for (const name of names) {
    process.on(name, () => say('process', name, process.connected))
    me.on(name, () => say('worker', name, me.isConnected(), me.exitedAfterDisconnect))
  }
}

const scenes = {
  // Who one is, and that the role does not pass to children.
  facts () {
    const own = ['NODE_UNIQUE_ID', 'NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE']
    say('roles', cluster.isPrimary, cluster.isWorker, cluster.isMaster, process.connected)
    say('state', me.state, me.isConnected(), me.isDead(), me.exitedAfterDisconnect)
    say('left', own.filter((name) => name in process.env).join(' ') || 'nothing')
    say('id', me.id, process.env.NODE_APP_INSTANCE)
    say('arguments', JSON.stringify(process.argv.slice(2)))
    const child = require('node:child_process').spawn(process.execPath, [
      '-p', 'require("node:cluster").isPrimary + " " + typeof process.send'
    ])
    child.stdout.on('data', (text) => say('child', String(text).trim()))
    serve()
  },

  // A worker that goes of its own accord, once asked for `/go`.
  goes () {
    events('disconnect')
    process.on('exit', (code) => say('exit', code, me.exitedAfterDisconnect))
    const ways = {
      '/disconnect': () => me.disconnect(),
      '/process': () => process.disconnect(),
      '/kill': () => me.kill(),
      '/twice': () => { me.disconnect(); me.disconnect() },
      '/destroy': () => { me.on('disconnect', () => me.destroy()); me.disconnect() },
      '/exit': () => process.exit(0),
      '/exit3': () => process.exit(3),
      '/throw': () => { throw new Error('thrown by the application') },
      '/reject': () => { Promise.reject(new Error('rejected by the application')) },
      '/abort': () => process.abort(),
      '/close': () => { server.close(); process.channel.unref() },
      '/unref': () => { server.unref(); process.channel.unref() }
    }
    const server = http.createServer((req, res) => {
      res.setHeader('Connection', 'close')
      res.end(String(process.pid), () => ways[req.url] && setImmediate(ways[req.url]))
    })
    server.listen(0, () => say('listening on port', server.address().port))
  },

  // A handler of uncaught exceptions decides how it ends.
  caught () {
    process.on('uncaughtException', () => process.exit(42))
    if (me.id <= 2) setTimeout(() => { throw new Error('caught by the application') }, 50)
    serve()
  },

  // What the primary tells it to do, and whether it ends by itself.
  told () {
    events('disconnect')
    process.on('exit', (code) => say('exit', code, me.exitedAfterDisconnect))
    const server = serve()
    server.on('close', () => say('closed'))
  },

  // No server at all, and nothing to do.
  idle () {
    events('disconnect')
    process.on('message', () => {})
    say('idle')
  },

  // A timer that never ends outlives the channel.
  lingers () {
    setInterval(() => {}, 1000)
    serve()
  },

  // Does not hear anything any more.
  spins () {
    const server = http.createServer((req, res) => {
      if (req.url !== '/spin') return res.end(String(process.pid))
      say('spinning')
      for (;;);
    })
    server.listen(0, () => say('listening on port', server.address().port))
  },

  // One connection whose end the server has to wait for.
  waits () {
    const server = net.createServer((socket) => {
      socket.write(`${process.pid}\n`)
      socket.on('data', (bytes) => socket.write(bytes))
      socket.on('end', () => say('client ended'))
      socket.on('error', () => {})
    })
    server.listen(0, () => say('listening on port', server.address().port))
    server.on('close', () => say('closed'))
    events('disconnect')
    process.on('exit', () => say('exit'))
  },

  // listen(0) again and again: the n-th of each worker is the same port.
  ports () {
    serve({ port: 0 }, 'first')
      .on('listening', () => serve({ port: 0 }, 'second')
        .on('listening', () => serve(undefined, 'third')))
  },

  // One worker in every place at once, for each version of Node.
  everything () {
    const { USED } = process.env
    serve({ port: 0, host: HOST }).on('listening', () => {
      serve({ port: 0, host: HOST }, 'second').on('listening', () => scenes.udp())
    })
    serve({ path: PATH_OF_SOCKET }, 'at path')
    serve({ port: Number(USED), host: HOST }, 'strange')
    if (process.env.ALONE) serve({ port: Number(process.env.ALONE), host: HOST, exclusive: true }, 'alone')
  },

  // Without any argument, and without a host.
  nowhere () {
    const server = http.createServer((req, res) => res.end(String(process.pid)))
    server.listen(() => {
      const { address, family, port } = server.address()
      say('bound', address, family)
      say('listening on port', port)
    })
  },

  both_families () {
    serve({ host: '::', port: 0, ipv6Only: false })
  },

  only_ipv6 () {
    serve({ host: '::', port: 0, ipv6Only: true })
  },

  // A path, given relative to where the worker runs.
  path () {
    serve({ path: PATH_OF_SOCKET, readableAll: true, writableAll: true }, 'listening at')
  },

  // A port on its own: only the first can have it.
  exclusive () {
    serve({ port: Number(PORT), host: HOST, exclusive: true }, 'alone at')
    serve()
  },

  reuse_port () {
    serve({ port: Number(PORT), host: HOST, reusePort: true })
  },

  // A port that somebody else has, and then another.
  in_use () {
    const server = serve({ port: Number(PORT), host: HOST }, 'strange')
    server.on('error', () => server.listen(0, HOST, () => {
      say('listening on port', server.address().port)
    }))
  },

  // An exception where an error is heard.
  throws_on_error () {
    process.on('uncaughtException', (error) => say('caught', error.message))
    net.createServer().on('error', () => { throw new Error('no luck') }).listen(Number(PORT), HOST)
    serve()
  },

  // The same place twice in one worker.
  twice () {
    const first = serve({ port: 0, host: HOST })
    first.on('listening', () => serve({ port: first.address().port, host: HOST }, 'strange'))
  },

  // The first worker closes its server and listens again at the same port, and then at another.
  again () {
    const server = serve({ port: Number(PORT), host: HOST })
    if (me.id > 1) return
    let times = 0
    server.on('listening', () => {
      if (times++ < 3) {
        setTimeout(() => server.close(() => server.listen(times < 3 ? Number(PORT) : 0, HOST)), 30)
      } else {
        say('settled', server.address().port)
      }
    })
  },

  // Two servers, of which one is closed: connections that were on their way to it go on.
  closes () {
    const server = serve()
    if (me.id === 1) process.on('SIGUSR2', () => server.close(() => say('closed')))
  },

  // The settings' socket.
  descriptor () {
    serve({ fd: Number(process.env.FD) })
  },

  // One that the worker has made itself.
  own_handle () {
    const { TCP, constants } = process.binding('tcp_wrap')
    const handle = new TCP(constants.SERVER)
    handle.bind('127.0.0.1', 0)
    const server = http.createServer((req, res) => res.end(String(process.pid)))
    server.listen(handle, () => say('own', server.address().port))
    serve()
  },

  // So many connections and no more.
  limits () {
    const limit = process.env[`LIMIT_${me.id}`]
    const server = net.createServer((socket) => {
      socket.write(`${me.id}\n`)
      socket.on('error', () => {})
      socket.resume()
    })
    if (limit !== undefined) server.maxConnections = Number(limit)
    server.listen(0, () => say('listening on port', server.address().port))
  },

  // Messages: what comes, goes back, by its length; and a big one of its own.
  messages () {
    process.on('message', (it) => say('heard', typeof it, JSON.stringify(it).length))
    cluster.worker.on('message', (it) => say('worker heard', typeof it))
    process.send({ cmd: 'NODE_CLUSTER', ack: 99999, accepted: true })
    process.send({ cmd: 'NODE_CLUSTER', act: 'nothing that is known' })
    process.send({ cmd: 'NODE_UNKNOWN' })
    for (const it of ['text', 7, true, null, { a: ['ü', '\n', '\u2028'] }]) process.send(it)
    process.send('x'.repeat(1 << 20), (error) => say('sent', error))
    serve()
  },

  // A connection given to the primary, which has no use for it, and then an end in good order.
  gives () {
    events('disconnect')
    const server = net.createServer((socket) => {
      process.send('a socket', socket, (error) => say('given', error))
    })
    server.listen(0, () => say('listening on port', server.address().port))
    process.on('exit', (code) => say('exit', code, me.exitedAfterDisconnect))
  },

  // A session of one worker is known to the other.
  tls () {
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => fs.readFileSync(`${process.env.KEYS}/${name}`))
    const server = require('node:tls').createServer({ key, cert, maxVersion: 'TLSv1.2' }, (socket) => {
      socket.end(`${process.pid} ${socket.isSessionReused()}\n`)
      socket.on('error', () => {})
    })
    server.listen(0, () => say('listening on port', server.address().port))
  },

  // Every datagram is answered by whoever has it.
  udp () {
    const socket = dgram.createSocket({ type: 'udp4', reuseAddr: process.env.REUSE === 'yes' })
    socket.on('message', (bytes, from) => {
      // Whoever has this is busy, so that what comes next is another's.
      const end = Date.now() + (String(bytes) === 'rest' ? 50 : 0)
      while (Date.now() < end);
      socket.send(`${process.pid} ${bytes}`, from.port, from.address)
    })
    socket.on('error', (error) => say('udp error', failed(error)))
    socket.bind({ port: Number(process.env.UDP_PORT || 0), address: '127.0.0.1' }, () => say('udp on port', socket.address().port))
    // That of another one is its own affair.
    const other = dgram.createSocket('udp4')
    other.bind(0, '127.0.0.1', () => {
      other.send('out', socket.address().port, '127.0.0.1', (error) => {
        say('udp sent', error)
        other.close(() => say('udp closed'))
      })
    })
    // Closed before its answer has come.
    const hasty = dgram.createSocket('udp4')
    hasty.bind(0, '127.0.0.1')
    hasty.close()
    if (SCENE === 'udp') serve()
  },

  udp_both () {
    const four = dgram.createSocket('udp4')
    const six = dgram.createSocket({ type: 'udp6', ipv6Only: true })
    six.on('error', (error) => say('udp error', failed(error)))
    four.bind(0, '0.0.0.0', () => {
      const { port } = four.address()
      six.bind(port, '::', () => say('udp both', six.address().port === port))
    })
    serve()
  },

  udp_in_use () {
    const socket = dgram.createSocket('udp4')
    socket.on('error', (error) => say('udp error', failed(error)))
    socket.bind(Number(process.env.UDP_PORT), HOST)
    serve()
  },

  // Listens when it has been told to, and says that it is ready later still.
  ready () {
    serve().on('listening', () => setTimeout(() => {
      say('ready now')
      process.send('ready')
    }, 300))
  }
}

scenes[SCENE]()
