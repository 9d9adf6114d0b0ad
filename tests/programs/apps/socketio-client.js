// Clients of apps/socketio.js by long polling: what they were told by whom.
//
// With `addresses` each has connections of its own, from an address of its own. With `short` each request has
// a new connection, so that nothing but its query says whose it is; with `cookies` each client beside that
// keeps the cookies that it is given, as browsers do. Prints `clients N ok`, the pids that answered, or the
// first thing that went wrong.
const http = require('node:http')
const { io } = require('socket.io-client')

const [how, ...numbers] = process.argv.slice(2)
const [port, count, rounds] = numbers.map(Number)

function connection (number) {
  const short = how !== 'addresses'
  const agent = new http.Agent({ keepAlive: false, localAddress: short ? undefined : `127.0.0.${number + 2}` })
  return { agent, withCredentials: how === 'cookies', forceNew: true }
}

function client (number) {
  return new Promise((resolve, reject) => {
    const options = { transports: ['polling'], reconnection: false, ...connection(number) }
    const socket = io(`http://127.0.0.1:${port}`, options)
    socket.on('connect_error', reject)
    socket.on('disconnect', (why) => reject(new Error(`disconnected: ${why}`)))
    socket.on('connect', async () => {
      const pids = new Set()
      for (let round = 0; round < rounds; round++) {
        pids.add(await new Promise((resolve) => socket.emit('who', {}, resolve)))
        const word = `${number} ${round}`
        const echo = await new Promise((resolve) => socket.emit('echo', word, resolve))
        if (echo !== word) reject(new Error(`${word}: ${echo}`))
      }
      socket.off('disconnect')
      socket.close()
      pids.size === 1 ? resolve([...pids][0]) : reject(new Error(`several: ${[...pids]}`))
    })
  })
}

Promise.all(Array.from({ length: count }, (_, number) => client(number))).then(
  (pids) => {
    console.log(`clients ${pids.length} ok ${[...new Set(pids)].join(' ')}`)
    process.exit(0)
  },
  (error) => {
    console.log(`failed: ${error.message}: ${error.context?.responseText ?? error.description ?? ''}`)
    process.exit(1)
  }
)
