// A worker that abuses its channel, in the way that WAY names; only the worker of place 0 does, and only the
// first at that place. All serve their pid.
'use strict'
const cluster = require('node:cluster')
const fs = require('node:fs')
const http = require('node:http')
const { WAY, NODE_APP_INSTANCE } = process.env

// The channel's descriptor: there is one socket at this point.
const channel = process.channel
const fd = channel.fd

const server = http.createServer((req, res) => res.end(String(process.pid)))
server.listen(0, () => {
  console.log(`listening on port ${server.address().port}`)
  // Once its server is known to the primary.
  if (NODE_APP_INSTANCE === '0' && cluster.worker.id <= 2) setTimeout(begin, 100)
})

// Writes all of it, however long that takes: the other end may let us wait.
function write (bytes, then) {
  let at = 0
  const more = () => {
    try {
      while (at < bytes.length) at += fs.writeSync(fd, bytes, at)
    } catch (error) {
      if (error.code === 'EAGAIN') return setTimeout(more, 1)
      return console.log(`stopped ${error.code} ${at}`)
    }
    then ? then() : console.log('written')
  }
  more()
}

// Writes it again and again.
function flood (line, times) {
  const block = Buffer.from(line.repeat(Math.ceil(65536 / line.length)))
  const more = (left) => left > 0 ? write(block, () => setImmediate(more, left - block.length)) : console.log('written')
  more(line.length * times)
}

const ways = {
  garbage: () => write(require('node:crypto').randomBytes(1 << 20)),
  not_json: () => flood('{"cmd": \n', 1000),
  half: () => write(Buffer.from('{"cmd":"NODE_CLUSTER","act":"li')),
  empty: () => flood('\n', 1000000),
  huge: () => {
    const block = Buffer.alloc(1 << 20, 'x')
    const more = (left) => left > 0 ? write(block, () => setImmediate(more, left - 1)) : console.log('written')
    write(Buffer.from('"'), () => more(100))
  },
  deep: () => write(Buffer.from(`${'['.repeat(1 << 20)}\n`)),
  messages: () => flood('"a message of the user"\n', 300000),
  bare: () => flood('{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"a":1}}\n', 50000),
  acks: () => flood('{"cmd":"NODE_HANDLE_ACK"}\n{"cmd":"NODE_HANDLE_NACK"}\n{"cmd":"NODE_CLUSTER","ack":77,"accepted":true,"seq":1}\n', 30000),
  queries: () => flood('{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4,"seq":9}\n', 3000),
  closes: () => flood('{"cmd":"NODE_CLUSTER","act":"close","key":"nothing"}\n', 50000),
  wrong: () => write(Buffer.from([
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":-1}',
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":1e300,"address":{},"port":"x","addressType":[]}',
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":5,"address":"no address","port":70000,"addressType":4}',
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":6,"address":null,"port":null,"addressType":null,"fd":0}',
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":7,"address":null,"port":null,"addressType":null,"fd":-5}',
    '{"cmd":"NODE_CLUSTER","act":"queryServer","seq":8,"address":"/dev/null","port":-1,"addressType":-1}',
    '{"cmd":"NODE_CLUSTER","act":"listening","key":7}',
    '{"cmd":"NODE_CLUSTER","act":"online"}', '{"cmd":"NODE_CLUSTER"}', '{"cmd":"NODE_CLUSTER","act":7}',
    '{"cmd":"NODE_HANDLE"}', '{"cmd":"NODE_SOCKET_NOTIFY_CLOSE"}', 'null', '[]', '1e999', '"\\ud800"', ''
  ].join('\n'))),
  // Ours alone: Node has closed its end, and lives on.
  shut: () => {
    setInterval(() => {}, 1000)
    process.removeAllListeners('internalMessage')
    process.once('disconnect', () => console.log('written'))
    cluster.worker.exitedAfterDisconnect = true
    process.disconnect()
  },
  descriptors: () => {
    // Python can send them.
    const script = `${__dirname}/descriptors.py`
    const child = require('node:child_process').spawn('python3', [script], { stdio: ['ignore', 'inherit', 'inherit', fd] })
    child.on('exit', () => console.log('written'))
  }
}

function begin () {
  console.log(`begins ${WAY} ${fd}`)
  ways[WAY]()
}
